import { assertEquals } from "@std/assert";
import { CtrlClass, CtrlMac, CtrlRx } from "./protocol.ts";
import { NetBench } from "./testing/bench.ts";
import { packet } from "./testing/packets.ts";

const OPTIONS = { backend: "echo", mac: "02:00:00:00:00:01" };
const MAC = [2, 0, 0, 0, 0, 9];

/** A device with the control queue, and what it tells the others. */
class Teller {
  readonly told: unknown[] = [];
  readonly bench: NetBench;
  #heard: (() => void)[] = [];

  constructor(options: Readonly<Record<string, unknown>> = OPTIONS) {
    this.bench = new NetBench(options, {
      tellOthers: (value, heard) => {
        this.told.push(structuredClone(value));
        this.#heard.push(heard);
      },
    });
  }

  /** All that was told has been heard. */
  heard(): void {
    for (const heard of this.#heard.splice(0)) heard();
    this.bench.run();
  }

  /** Sends a command; what came back of earlier ones too. */
  command(kind: number, command: number, data: readonly number[]): number[] {
    const driver = this.bench.drivers.get(this.bench.controlIndex)!;
    driver.submit([
      { readable: new Uint8Array([kind, command]) },
      { readable: new Uint8Array(data) },
      { writable: 1 },
    ]);
    return this.answers();
  }

  answers(): number[] {
    this.bench.run();
    const driver = this.bench.drivers.get(this.bench.controlIndex)!;
    return driver.reap().map(({ data }) => data[0]);
  }

  [Symbol.dispose](): void {
    this.bench[Symbol.dispose]();
  }
}

function filterOf(bench: NetBench): Record<string, unknown> {
  return bench.device.status().filter as Record<string, unknown>;
}

Deno.test("a command is answered when all objects know, and one at a time", () => {
  using teller = new Teller();
  teller.heard();
  const before = teller.told.length;
  assertEquals(teller.command(CtrlClass.RX, CtrlRx.PROMISC, [0]), []);
  assertEquals(teller.command(CtrlClass.RX, CtrlRx.ALLMULTI, [1]), []);
  // The first command of a driver is preceded by that it is a new one.
  assertEquals(teller.told.length, before + 2);
  assertEquals(filterOf(teller.bench).allmulti, false);
  teller.heard();
  assertEquals(teller.answers(), [0]);
  assertEquals(filterOf(teller.bench).allmulti, true);
  teller.heard();
  assertEquals(teller.answers(), [0]);
  // One that is refused changes nothing.
  assertEquals(teller.command(CtrlClass.RX, 99, [1]), [1]);
  assertEquals(teller.told.length, before + 3);
});

Deno.test("a command that waits is answered when its ring stops", () => {
  using teller = new Teller();
  const { bench } = teller;
  assertEquals(teller.command(CtrlClass.RX, CtrlRx.PROMISC, [0]), []);
  const index = bench.controlIndex;
  const queue = bench.queues.get(index)!;
  bench.device.quiesce(queue);
  assertEquals(queue.inFlight, 0);
  queue.publish();
  assertEquals(teller.answers(), [0]);
  // What is heard late finds nothing to answer.
  teller.heard();
  assertEquals([queue.inFlight, teller.answers()], [0, []]);
});

Deno.test("what one object is told, the others do", () => {
  using teller = new Teller();
  using other = new NetBench(OPTIONS, { control: false });
  const { bench } = teller;
  const pass = () => {
    for (const value of teller.told.splice(0)) other.device.hear(value);
    teller.heard();
  };
  pass();
  other.fill(8);
  other.run();
  const commands: [number, number, number[]][] = [
    [CtrlClass.RX, CtrlRx.PROMISC, [0]],
    [CtrlClass.MAC, CtrlMac.ADDR_SET, MAC],
    [CtrlClass.MAC, CtrlMac.TABLE_SET, [
      ...[1, 0, 0, 0, 2, 0, 0, 0, 0, 7],
      ...[2, 0, 0, 0, 3, 0, 0, 0, 0, 1, 3, 0, 0, 0, 0, 2],
    ]],
    [CtrlClass.VLAN, 0, [5, 0]],
    [CtrlClass.GUEST_OFFLOADS, 0, [2, 0, 0, 0, 0, 0, 0, 0]],
  ];
  for (const command of commands) {
    teller.command(...command);
    pass();
    assertEquals(teller.answers(), [0]);
  }
  const changes = other.configChanges;
  assertEquals(filterOf(other), filterOf(bench));
  assertEquals(filterOf(other).unicast, 1);
  const { mac, receiveOffloads } = other.device.status();
  assertEquals([mac, receiveOffloads], ["02:00:00:00:00:09", ["csum"]]);
  assertEquals(changes, 1);
  // Echoes go to whom a frame says that it is from.
  for (
    const [from, count] of [
      [MAC, 1],
      [[2, 0, 0, 0, 0, 7], 1],
      [[2, 0, 0, 0, 0, 8], 0],
      [[3, 0, 0, 0, 0, 2], 1],
      [[3, 0, 0, 0, 0, 3], 0],
    ] as const
  ) {
    other.send(packet({ from, payload: 40 }).bytes);
    assertEquals(other.received().length, count, `${from}`);
  }
});

Deno.test("an announcement that was made is known to all", () => {
  using teller = new Teller();
  using other = new NetBench(OPTIONS, { control: false });
  teller.command(CtrlClass.RX, CtrlRx.PROMISC, [1]);
  for (const value of teller.told.splice(0)) other.device.hear(value);
  teller.heard();
  assertEquals(teller.answers(), [0]);
  for (const device of [other.device, teller.bench.device]) {
    device.command("announce", {});
  }
  assertEquals(other.device.config[6], 3);
  const before = other.configChanges;
  teller.command(CtrlClass.ANNOUNCE, 0, []);
  for (const value of teller.told.splice(0)) other.device.hear(value);
  assertEquals([other.device.config[6], other.configChanges], [1, before + 1]);
});

Deno.test("what was said by a driver that is gone is not heard", () => {
  using teller = new Teller();
  using other = new NetBench(OPTIONS, { control: false });
  teller.command(CtrlClass.RX, CtrlRx.PROMISC, [0]);
  const late = teller.told.splice(0);
  other.device.reset();
  other.device.negotiate(other.features);
  for (const value of late) other.device.hear(value);
  assertEquals(filterOf(other).promisc, true);
});

Deno.test("pairs: as many as the driver says, once it owns the queue", () => {
  const features = ~0n;
  const options = { ...OPTIONS, queues: 3 };
  const told: unknown[] = [], pending: (() => void)[] = [];
  using teller = new NetBench(options, {
    features,
    pairs: 3,
    tellOthers: (value, heard) => {
      told.push(value);
      pending.push(heard);
    },
  });
  using other = new NetBench(options, { features, pairs: 3, control: false });
  const pairs = () => other.device.status().queuePairs;
  assertEquals(pairs(), 3);
  other.device.hear(told.at(-1));
  assertEquals(pairs(), 1);
  const driver = teller.drivers.get(teller.controlIndex)!;
  driver.submit([
    { readable: new Uint8Array([CtrlClass.MQ, 0, 2, 0]) },
    { writable: 1 },
  ]);
  teller.run();
  other.device.hear(told.at(-1));
  assertEquals(pairs(), 2);
  for (const heard of pending) heard();
  teller.run();
  const [done] = driver.reap();
  assertEquals(done.data[0], 0);
});
