/**
 * A Linux guest with several queue pairs that moves to another server.
 */

import { assert, assertEquals } from "@std/assert";
import { ServedNet } from "../protocol/net.ts";
import { waitUntil } from "../support/deadline.ts";
import { inNamespace, ip } from "../support/namespace.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { Sink, vhostUserNet } from "./network.ts";
import { awaitLinuxGuest, startLinuxGuest } from "./rig/linux_guest.ts";
import { prepareOrReason } from "./rig/prepare.ts";

const HOST = "10.9.0.1", GUEST = "10.9.0.2";

// Before the namespace, which reaches no mirror.
const reason = await prepareOrReason();

if (inNamespace("a guest on TAPs that moves", import.meta.url)) {
  const guests = skipUnless(reason === null, reason ?? "");

  guests.test("two pairs and two processors move to another server under traffic", async () => {
    ip("link", "add", "lan0", "type", "bridge");
    ip("addr", "add", `${HOST}/24`, "dev", "lan0");
    ip("link", "set", "lan0", "up");
    using directory = TemporaryDirectory.make("pairs");
    await using servers = new AsyncDisposableStack();
    const nets: ServedNet[] = [];
    for (const ifname of ["from0", "to0"]) {
      const net = await ServedNet.start({ backend: "tap", ifname, queues: 2 });
      nets.push(servers.use(net));
      ip("link", "set", ifname, "master", "lan0", "up");
    }
    const machine = (place: number) => ({
      smp: 2,
      memory: 256,
      append: "init_on_alloc=0",
      devices: vhostUserNet(nets[place].socket, { queues: 2 }),
    });
    const sinks = [new Sink(HOST), new Sink(HOST)];
    for (const sink of sinks) servers.use(sink);
    const uri = `unix:${directory.file("move")}`;
    await using source = await startLinuxGuest(machine(0));
    await source.check("ip link set eth0 up");
    await source.check(`ip addr add ${GUEST}/24 dev eth0`);
    await source.check(
      "dd if=/dev/urandom of=/tmp/data bs=1M count=16 2>/dev/null",
    );
    // Enough to outlast the move.
    const stream = "for i in 1 2 3 4 5 6 7 8; do cat /tmp/data; done";
    const [sum] = (await source.check(`(${stream}) | sha256sum`, 60_000))
      .split(" ");
    await using target = await awaitLinuxGuest(machine(1), uri);
    for (const { port } of sinks) {
      await source.check(`((${stream}) | nc ${HOST} ${port}) & true`);
    }
    await waitUntil(() => sinks.every(({ bytes }) => bytes > 1 << 20), {
      what: "traffic of both",
      timeout: 60_000,
    });
    const { qmp } = source.qemu;
    const limits = { "max-bandwidth": 200 << 20, "downtime-limit": 300 };
    await qmp.execute("migrate-set-parameters", limits);
    await qmp.execute("migrate", { uri });
    await waitUntil(async () => {
      const { status } = await qmp.execute("query-migrate") as {
        status: string;
      };
      if (status === "failed" || status === "cancelled") {
        throw new Error(`The migration ${status}: ${source.qemu.messages}`);
      }
      return status === "completed";
    }, { what: "the end of the migration", timeout: 120_000 });
    const there = sinks.map(({ bytes }) => bytes);
    await source.qemu.close();
    await target.arrive();
    await waitUntil(() => sinks.every(({ digests }) => digests.length === 1), {
      what: "the end of the traffic",
      timeout: 90_000,
    });
    for (const [i, sink] of sinks.entries()) {
      assertEquals(sink.digests, [sum]);
      assert(sink.bytes > there[i], `stream ${i} had ended before the move`);
    }
    await target.check(`ping -c 2 -W 5 ${HOST}`);
    // Both pairs run in the new place, and have carried frames.
    const { rings } = await nets[1].server.status() as {
      rings: { index: number; completed: number }[];
    };
    assertEquals(rings.map(({ index }) => index).sort(), [0, 1, 2, 3]);
    assert(rings.some(({ index, completed }) => index > 1 && completed > 0));
    assertEquals(await target.powerOff(), 0);
  });
}
