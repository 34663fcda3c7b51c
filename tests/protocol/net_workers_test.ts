/**
 * A TAP whose queue pairs are shared by several Workers.
 */

import { assert, assertEquals } from "@std/assert";
import { packet } from "../../backends/net/testing/packets.ts";
import { CtrlClass, CtrlMac, CtrlRx } from "../../backends/net/protocol.ts";
import { waitUntil } from "../support/deadline.ts";
import { inNamespace, ip } from "../support/namespace.ts";
import { NetGuest, ServedNet } from "./net.ts";

const MAC = [2, 0, 0, 0, 0, 0xa];
const PAIRS = 4, CONTROL = 2 * PAIRS;

/** What each Worker says of itself. */
interface WorkerFacts {
  readonly queuePairs: number;
  readonly mac: string;
  readonly receiveOffloads: readonly string[];
  readonly filter: Record<string, unknown>;
  readonly frames: Record<string, number>;
  readonly tap: { readonly queues: number; readonly attached: number };
}

async function factsOf(net: ServedNet): Promise<WorkerFacts[]> {
  return (await net.device()).workers as WorkerFacts[];
}

/** A question for the host's address; its answers are told by their target. */
function arp(host: number, from: number): Uint8Array {
  return new Uint8Array([
    ...[255, 255, 255, 255, 255, 255, ...MAC, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
    ...[...MAC, 10, 9, host, from, 0, 0, 0, 0, 0, 0, 10, 9, host, 1],
  ]);
}

if (inNamespace("a TAP of several Workers", import.meta.url)) {
  Deno.test("pairs are shared, and commands reach all Workers", async () => {
    await using net = await ServedNet.start(
      {
        backend: "tap",
        ifname: "share0",
        queues: PAIRS,
        mac: "02:00:00:00:00:0a",
      },
      { workers: 2 },
    );
    ip("addr", "add", "10.9.0.1/24", "dev", "share0");
    ip("link", "set", "share0", "up");
    using guest = await NetGuest.run(net.socket, {
      features: ~0n,
      rings: CONTROL + 1,
    });
    const attached = async () =>
      (await factsOf(net)).map(({ tap }) => [tap.queues, tap.attached]);
    // The queues of the TAP are as many as the driver asked for.
    assertEquals(await attached(), [[2, 1], [2, 0]]);
    const command = async (kind: number, what: number, data: number[]) => {
      assertEquals(await guest.control(CONTROL, kind, what, data), 0);
    };
    const used: [number, number[][]][] = [
      [4, [[2, 2], [2, 2]]],
      [1, [[2, 1], [2, 0]]],
      [3, [[2, 2], [2, 1]]],
      [4, [[2, 2], [2, 2]]],
    ];
    for (const [pairs, expected] of used) {
      await command(CtrlClass.MQ, 0, [pairs, 0]);
      // It is so when the command is answered, not some time later.
      assertEquals(await attached(), expected);
    }
    await command(CtrlClass.RX, CtrlRx.PROMISC, [0]);
    await command(CtrlClass.MAC, CtrlMac.TABLE_SET, [
      ...[1, 0, 0, 0, 2, 0, 0, 0, 0, 7],
      ...[1, 0, 0, 0, 3, 0, 0, 0, 0, 1],
    ]);
    await command(CtrlClass.GUEST_OFFLOADS, 0, [2, 0, 0, 0, 0, 0, 0, 0]);
    await command(CtrlClass.VLAN, 0, [7, 0]);
    const facts = await factsOf(net);
    assertEquals(facts[0].filter, facts[1].filter);
    const { promisc, unicast, multicast } = facts[1].filter;
    assertEquals([promisc, unicast, multicast], [false, 1, 1]);
    for (const { receiveOffloads, mac } of facts) {
      assertEquals([receiveOffloads, mac], [["csum"], "02:00:00:00:00:0a"]);
    }

    for (let pair = 0; pair < PAIRS; pair++) guest.fill(60, 1526, pair);
    // Each question on each pair is answered, on whichever pair.
    const answered = new Set<number>();
    const collect = () => {
      for (let pair = 0; pair < PAIRS; pair++) {
        for (const { data } of guest.guest.drivers[2 * pair].reap()) {
          const frame = data.subarray(12);
          if (frame[12] === 8 && frame[13] === 6 && frame[21] === 2) {
            answered.add(frame[41]);
          }
        }
      }
    };
    for (let pair = 0; pair < PAIRS; pair++) {
      for (let i = 0; i < 8; i++) {
        guest.send([arp(0, 16 * pair + i + 2)], pair);
        await guest.sent(1, pair);
      }
    }
    await waitUntil(() => {
      collect();
      return answered.size === 8 * PAIRS;
    }, { what: "an answer to each question" });
    for (const { frames, tap } of await factsOf(net)) {
      assertEquals([frames.txFrames, tap.attached], [16, 2]);
    }

    // A driver that comes again is another one.
    await command(CtrlClass.MQ, 0, [1, 0]);
    guest[Symbol.dispose]();
    await waitUntil(
      async () =>
        (await factsOf(net)).every(({ filter }) => filter.promisc === true),
      { what: "the device to be reset" },
    );
  });

  Deno.test("where the front-end answers commands, rings say what is used", async () => {
    await using net = await ServedNet.start(
      { backend: "tap", ifname: "share1", queues: 2 },
      { workers: 2 },
    );
    ip("addr", "add", "10.9.1.1/24", "dev", "share1");
    ip("link", "set", "share1", "up");
    for (const rings of [4, 2, 4]) {
      using guest = await NetGuest.run(net.socket, { features: ~0n, rings });
      const facts = await factsOf(net);
      assertEquals(facts.map(({ tap }) => tap.attached), [1, rings / 2 - 1]);
      guest.fill(60);
      if (rings === 4) guest.fill(60, 1526, 1);
      let answers = 0;
      await waitUntil(() => {
        for (let pair = 0; pair < rings / 2; pair++) {
          guest.guest.drivers[2 * pair + 1].reap();
          guest.send([arp(1, 2)], pair);
          answers += guest.guest.drivers[2 * pair].reap()
            .filter(({ data }) => data[24] === 8 && data[33] === 2).length;
        }
        return answers > 0;
      }, { what: "an answer", interval: 5 });
    }
  });

  Deno.test("the link of all Workers, and one RARP", async () => {
    await using net = await ServedNet.start(
      { backend: "tap", ifname: "share2", queues: 2 },
      { workers: 2 },
    );
    ip("link", "set", "share2", "up");
    using guest = await NetGuest.run(net.socket, { features: ~0n, rings: 5 });
    const status = async () => (await guest.guest.frontEnd.getConfig(6, 2))[0];
    await net.server.command("link", { up: false });
    await guest.guest.frontEnd.configChange();
    assertEquals(await status(), 0);
    for (const pair of [0, 1]) {
      guest.send([packet().bytes], pair);
      await guest.sent(1, pair);
    }
    for (const { frames } of await factsOf(net)) {
      assertEquals(frames.txLinkDown, 1);
    }
    await net.server.command("link", { up: true });
    await guest.guest.frontEnd.configChange();
    assertEquals(await status(), 1);
    const received = () =>
      Number(
        /share2: *\d+ +(\d+)/.exec(Deno.readTextFileSync("/proc/net/dev"))![1],
      );
    const before = received();
    await net.server.command("announce", { mac: "02:00:00:00:00:0a" });
    assert(received() - before === 1, `${received() - before} frames`);
    // It announces itself once, to whichever Worker has the control queue.
    assertEquals(await guest.control(4, CtrlClass.RX, 0, [1]), 0);
    await net.server.command("announce", {});
    await guest.guest.frontEnd.configChange();
    assertEquals(await status(), 3);
    assertEquals(await guest.control(4, CtrlClass.ANNOUNCE, 0, []), 0);
    await guest.guest.frontEnd.configChange();
    assertEquals(await status(), 1);
  });
}
