/**
 * Linux's virtio_net over passt. Over TAPs: `net_tap_test.ts`.
 */

import { assert, assertEquals } from "@std/assert";
import { ServedNet } from "../protocol/net.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import {
  bulk,
  DHCP,
  genericNet,
  Sink,
  Source,
  vhostUserNet,
} from "./network.ts";
import { runLinuxGuest } from "./rig/linux_guest.ts";
import { passtOrReason, wrapper } from "./rig/network.ts";
import { prepareOrReason } from "./rig/prepare.ts";

const reason = await prepareOrReason();
const passt = await passtOrReason();
const guests = skipUnless(
  reason === null && passt.passt !== null,
  reason ?? passt.reason,
);

interface Kind {
  readonly name: string;
  /** QEMU's arguments. */
  readonly devices: (socket: string) => string[];
  /** Its rings are packed. */
  readonly packed?: boolean;
}

const KINDS: readonly Kind[] = [
  { name: "modern", devices: (socket: string) => vhostUserNet(socket) },
  {
    name: "legacy",
    devices: (socket: string) =>
      vhostUserNet(socket, {
        properties: ",disable-modern=on,disable-legacy=off",
      }),
  },
  {
    name: "packed rings",
    devices: (socket: string) =>
      vhostUserNet(socket, { properties: ",packed=on" }),
    packed: true,
  },
  {
    name: "its control queue ours",
    devices: (socket: string) => genericNet(socket),
  },
];

for (const { name, devices, packed } of KINDS) {
  guests.test(`Linux over passt: DHCP, TCP both ways, ${name}`, async () => {
    using directory = TemporaryDirectory.make("passt");
    await using net = await ServedNet.start({
      backend: "passt",
      passt: wrapper(directory, "passt", passt.passt!),
      mac: "52:54:00:12:34:56",
    });
    await using sink = new Sink("127.0.0.1");
    await using source = new Source("127.0.0.1", 16 << 20);
    const result = await runLinuxGuest({
      devices: devices(net.socket),
      timeout: 90_000,
      script: `
        ${DHCP}
        say MAC $(cat /sys/class/net/eth0/address)
        say FEATURES $(cat /sys/bus/virtio/devices/virtio0/features)
        ${bulk("$(cat /router)", sink.port, source.port)}
      `,
    });
    const { values, checks } = result;
    assertEquals(values.MAC, "52:54:00:12:34:56");
    assertEquals(checks, ["dhcp", "send"]);
    assertEquals(sink.digests, [values.SENT.split(" ")[0]]);
    assertEquals(values.RECEIVED.split(" ")[0], source.digest);
    if (packed) assertEquals(values.FEATURES[34], "1");
    // No TSO towards passt; checksums are ours to fill in.
    assertEquals([values.FEATURES[0], values.FEATURES[11]], ["1", "0"]);
    const { software } = await net.device() as {
      software: { checksums: number };
    };
    assert(software.checksums > 1000, `${software.checksums} checksums`);
    const { badLength, dropped } = (await net.device()).passt as Record<
      string,
      number
    >;
    assertEquals([badLength, dropped], [0, 0]);
  });
}
