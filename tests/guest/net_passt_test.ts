/**
 * The passt backend with a real passt, without a guest.
 */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { NetBackendError } from "../../backends/net/error.ts";
import { NetBench } from "../../backends/net/testing/bench.ts";
import { dhcpDiscover, dhcpOffer } from "../../backends/net/testing/dhcp.ts";
import { ALICE } from "../../backends/net/testing/packets.ts";
import { NetGuest } from "../protocol/net.ts";
import { serveNet } from "../protocol/net_command.ts";
import { waitUntil } from "../support/deadline.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { passtOrReason, wrapper } from "./rig/network.ts";
import { ChildProcess, waitForListener } from "../support/process.ts";

const { passt, reason } = await passtOrReason();
const tests = skipUnless(passt !== null, reason);

/** Asks for an address until one is offered. */
async function offered(bench: NetBench): Promise<number[]> {
  const transaction = crypto.getRandomValues(new Uint32Array(1))[0];
  bench.fill(16);
  bench.run();
  bench.send(dhcpDiscover(ALICE, transaction));
  let offer: number[] | null = null;
  await bench.until(() => {
    for (const { bytes } of bench.received()) {
      offer ??= dhcpOffer(bytes, transaction);
    }
    return offer !== null;
  });
  return offer!;
}

function statusOf(bench: NetBench): Record<string, unknown> {
  return bench.device.status().passt as Record<string, unknown>;
}

tests.test("a passt that is started offers an address", async () => {
  using directory = TemporaryDirectory.make("passt");
  using bench = new NetBench({
    backend: "passt",
    passt: wrapper(directory, "passt", passt!),
  });
  assertEquals(bench.device.config[6], 1);
  const address = await offered(bench);
  assert(address.some((byte) => byte !== 0), `${address}`);
  const { connected, badLength, dropped } = statusOf(bench);
  assertEquals([connected, badLength, dropped], [true, 0, 0]);
});

tests.test("the command serves passt with few permissions", async () => {
  using directory = TemporaryDirectory.make("passt");
  const socket = directory.file("net.sock");
  const program = wrapper(directory, "passt", passt!);
  const keys = `socket=${socket},backend=passt,passt=${program}`;
  await using server = await serveNet([keys]);
  using guest = await NetGuest.run(socket);
  guest.fill(64);
  let offer: number[] | null = null;
  await waitUntil(async () => {
    guest.send([dhcpDiscover(ALICE, 7)]);
    await guest.sent(1);
    if (!guest.guest.drivers[0].usedPending) return false;
    for (const frame of await guest.receive(1)) offer ??= dhcpOffer(frame, 7);
    return offer !== null;
  }, { what: "an offer", interval: 100 });
  assertEquals((await server.stop("SIGTERM")).code, 0);
});

tests.test("a passt that ends takes the link down, and is started again", async () => {
  using directory = TemporaryDirectory.make("passt");
  using bench = new NetBench({
    backend: "passt",
    passt: wrapper(directory, "passt", passt!),
  });
  await offered(bench);
  const { pid } = statusOf(bench);
  Deno.kill(pid as number, "SIGKILL");
  await bench.until(() => bench.device.config[6] === 0);
  assertEquals(statusOf(bench).connected, false);
  assertEquals(bench.send(dhcpDiscover(ALICE, 1)).length, 1);
  assertEquals(bench.count("txLinkDown"), 1);
  await bench.until(() => bench.device.config[6] === 1);
  assert(statusOf(bench).pid !== pid);
  await offered(bench);
  assertEquals(bench.log.map((line) => line.split(":")[0]), ["error", "info"]);
});

tests.test("a passt that listens is connected to", async () => {
  using directory = TemporaryDirectory.make("passt");
  const socket = directory.file("p.sock");
  const none = { backend: "passt", passtSocket: socket };
  const error = assertThrows(
    () => new NetBench(none),
    NetBackendError,
    `Cannot connect to passt on "${socket}"`,
  );
  assertEquals(error.kind, "connect");
  Deno.chmodSync(directory.path, 0o777);
  await using server = ChildProcess.start(passt!.command, {
    name: "passt",
    args: [...passt!.args, "--foreground", "--quiet", "--socket", socket],
  });
  await waitForListener(socket, server);
  using bench = new NetBench(none);
  await offered(bench);
});

Deno.test("a passt that is not there is named, and what to do", () => {
  const error = assertThrows(
    () => new NetBench({ backend: "passt", passt: "no-such-passt" }),
    NetBackendError,
    'Cannot find a program "no-such-passt" on PATH: install passt, name it ' +
      "with passt=PATH, or use backend=switch",
  );
  assertEquals(error.kind, "program");
});
