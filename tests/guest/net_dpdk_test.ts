/**
 * DPDK's virtio-user as a front-end and driver of the network device.
 */

import { assert, assertEquals } from "@std/assert";
import { ServedNet } from "../protocol/net.ts";
import { serveNet } from "../protocol/net_command.ts";
import { waitUntil } from "../support/deadline.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { dpdkOrReason, Testpmd } from "./rig/dpdk.ts";

const { root, reason } = await dpdkOrReason();
const tests = skipUnless(root !== "", reason);

/** Frames that are under way. */
const BURST = 32;

const PORTS = [
  { name: "merged", port: "" },
  { name: "unmerged", port: ",mrg_rxbuf=0" },
  { name: "packed, in order", port: ",packed_vq=1,in_order=1" },
  { name: "packed, unmerged", port: ",packed_vq=1,in_order=0,mrg_rxbuf=0" },
  { name: "split, not in order", port: ",in_order=0" },
];

for (const { name, port } of PORTS) {
  tests.test(`testpmd and the echo lose no frame, ${name}`, async () => {
    await using net = await ServedNet.start({ backend: "echo" });
    await using testpmd = await Testpmd.start(root, net.socket, port);
    const status = await net.server.status() as {
      session: { features: string };
    };
    const features = BigInt(status.session.features);
    const [packed, inOrder] = [34n, 35n].map((bit) => features >> bit & 1n);
    assertEquals(packed, port.includes("packed_vq=1") ? 1n : 0n);
    assertEquals(inOrder, port.includes("in_order=0") ? 0n : 1n);
    await testpmd.run("set fwd io");
    for (const size of [64, 512, 1518]) {
      await testpmd.run("clear port stats all");
      await testpmd.run(`set txpkts ${size}`);
      // One burst, which from then on goes to and fro.
      await testpmd.run("start tx_first 1");
      await waitUntil(async () => (await testpmd.stats()).received > 20_000, {
        what: `frames of ${size} bytes to come back`,
        timeout: 20_000,
      });
      await testpmd.run("stop");
      const { received, sent, missed } = await testpmd.stats();
      assert(sent - received <= BURST, `${sent} sent, ${received} came back`);
      assertEquals(missed, 0);
    }
    assertEquals(await net.count("rxNoBuffer"), 0);
    const { frames } = await net.device() as {
      frames: Record<string, unknown>;
    };
    assertEquals(frames.badHeaders, {});
    assertEquals([frames.txRunts, frames.txGiants], [0, 0]);
  });
}

tests.test("two ports of testpmd lose no frame on a switch", async () => {
  using directory = TemporaryDirectory.make("lan");
  const sockets = [directory.file("a.sock"), directory.file("b.sock")];
  await using server = await serveNet(
    sockets.map((socket) => `socket=${socket},backend=switch`),
  );
  await using testpmd = await Testpmd.start(root, sockets);
  await testpmd.run("set fwd io");
  for (const size of [64, 128, 256, 512, 1024, 1518]) {
    await testpmd.run("clear port stats all");
    await testpmd.run(`set txpkts ${size}`);
    // A burst from each port: what one receives the other one sends.
    await testpmd.run("start tx_first 1");
    await waitUntil(async () => (await testpmd.stats()).received > 10_000, {
      what: `frames of ${size} bytes to go round`,
      timeout: 20_000,
    });
    await testpmd.run("stop");
    const [a, b] = [await testpmd.stats(0), await testpmd.stats(1)];
    const lost = a.sent + b.sent - a.received - b.received;
    assert(lost <= 2 * BURST, `${lost} frames of ${size} bytes are missing`);
    assertEquals([a.missed, b.missed], [0, 0]);
  }
  assert(!server.ended, server.stderr.text);
});
