/**
 * Network devices served by the command with the permissions that it has in
 * production, in a process of their own under the supervisor. Everything else
 * that a backend asks of the system would be refused here.
 */

import { assert, assertEquals } from "@std/assert";
import { packet } from "../../backends/net/testing/packets.ts";
import { readCapture } from "../../backends/net/testing/pcapng.ts";
import {
  NAMESPACE_ARGUMENTS,
  namespaceReason,
} from "../../sys/testing/namespace.ts";
import { waitUntil } from "../support/deadline.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { NetGuest } from "./net.ts";
import { serveNet } from "./net_command.ts";

/** Frames whose lengths add up to twice the size of a capture file. */
const FRAMES = 100;

for (const keys of ["backend=echo", "backend=switch"]) {
  Deno.test(`${keys} is served and captured with few permissions`, async () => {
    using directory = TemporaryDirectory.make("net");
    const socket = directory.file("net.sock");
    const pcap = directory.file("net.pcapng");
    const capture = `pcap=${pcap},pcap-size=65536`;
    await using server = await serveNet([
      `socket=${socket},${keys},${capture}`,
    ]);
    using guest = await NetGuest.run(socket);
    const { bytes } = packet({ payload: 1400 });
    guest.fill(128);
    for (let i = 0; i < FRAMES; i++) {
      guest.send([bytes]);
      await guest.sent(1);
    }
    await waitUntil(() => captured(pcap) > 0, { what: "the captured frames" });
    assertEquals(readCapture(`${pcap}.1`)[0].bytes.length, bytes.length);
    assertEquals((await server.stop("SIGTERM")).code, 0);
    assertEquals(server.stderr.text.includes("NotCapable"), false);
  });
}

/** Frames in a capture file and the one before it, if there is one. */
function captured(pcap: string): number {
  try {
    return readCapture(`${pcap}.1`).length;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0;
    throw error;
  }
}

const reason = namespaceReason();
const namespaces = skipUnless(reason === null, reason ?? "");

for (const queues of [1, 2]) {
  namespaces.test(`a TAP of ${queues} queues is served with few permissions`, async () => {
    using directory = TemporaryDirectory.make("net");
    const socket = directory.file("net.sock");
    const keys = `socket=${socket},backend=tap,ifname=vtest0,queues=${queues}`;
    const wrapper = ["unshare", ...NAMESPACE_ARGUMENTS];
    await using server = await serveNet([keys], wrapper);
    using guest = await NetGuest.run(socket, {
      features: ~0n,
      rings: 2 * queues + 1,
    });
    for (let pair = 0; pair < queues; pair++) {
      guest.send([packet().bytes], pair);
      await guest.sent(1, pair);
    }
    assert(!server.ended, server.stderr.text);
  });
}
