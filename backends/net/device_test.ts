import { assert, assertEquals, assertThrows } from "@std/assert";
import { featureMask, VIRTIO_F_VERSION_1 } from "../../virtqueue/constants.ts";
import { CtrlClass, NetFeature } from "./protocol.ts";
import { EVERYTHING, NetBench } from "./testing/bench.ts";
import {
  ALICE,
  BOB,
  BROADCAST,
  packet,
  partialHeader,
  sumsHold,
  virtioHeader,
} from "./testing/packets.ts";
import { ringProfile, ringTest } from "../../virtqueue/testing/ring_profile.ts";

const { MRG_RXBUF, CTRL_VQ, GUEST_TSO4, GUEST_CSUM, STATUS, MQ } = NetFeature;

function without(...bits: number[]): bigint {
  return EVERYTHING & ~featureMask(...bits);
}

function frame(length: number, to: readonly number[] = BOB): Uint8Array {
  const bytes = new Uint8Array(length);
  bytes.set(to);
  bytes.set(ALICE, 6);
  for (let i = 14; i < length; i++) bytes[i] = i * 5;
  return bytes;
}

/** What echo makes of a frame. */
function echoed(bytes: Uint8Array): Uint8Array {
  const swapped = bytes.slice();
  swapped.set(bytes.subarray(6, 12));
  swapped.set(bytes.subarray(0, 6), 6);
  return swapped;
}

const LAYOUTS = [
  { name: "merged", features: EVERYTHING, legacySize: 12 },
  { name: "unmerged", features: without(MRG_RXBUF), legacySize: 10 },
];

for (const { name, features, legacySize } of LAYOUTS) {
  ringTest(`frames go out and come back, ${name}`, () => {
    using bench = new NetBench({ backend: "echo" }, { features });
    const size = ringProfile().legacy ? legacySize : 12;
    assertEquals(bench.headerSize, size);
    for (const length of [14, 42, 60, 64, 512, 1514]) {
      bench.fill(2);
      const bytes = frame(length);
      assertEquals(bench.send(bytes).map((done) => done.length), [0]);
      const [received, ...more] = bench.received();
      assertEquals([received.bytes, more], [echoed(bytes), []]);
      const buffers = size === 12 ? [1, 0] : [];
      assertEquals([...received.header], [
        ...new Array(10).fill(0),
        ...buffers,
      ]);
    }
    assertEquals(bench.count("rxFrames"), 6);
    assertEquals(bench.count("txFrames"), 6);
  });
}

ringTest("a frame is received by a ring that had no turn yet", () => {
  using bench = new NetBench({ backend: "echo" });
  bench.fill(1);
  const bytes = frame(60);
  bench.drivers.get(1)!.submit([
    { readable: virtioHeader() },
    { readable: bytes },
  ]);
  bench.device.serve(bench.queues.get(1)!, 1);
  assertEquals(bench.received().map(({ bytes }) => bytes), [echoed(bytes)]);
  assertEquals(bench.count("rxNoBuffer"), 0);
});

ringTest("a long frame is spread over buffers, of any size", () => {
  for (const size of [64, 100, 1526, 4096, 65562]) {
    using bench = new NetBench({ backend: "echo" }, { size: 128 });
    const bytes = frame(7000);
    bench.fill(115, size);
    bench.send(bytes);
    const [received] = bench.received();
    assertEquals(received.buffers, Math.ceil((bytes.length + 12) / size));
    assertEquals(received.bytes, echoed(bytes));
  }
});

ringTest("chains in many pieces, with the header anywhere in them", () => {
  using bench = new NetBench({ backend: "echo" });
  const bytes = frame(300);
  const all = new Uint8Array([...virtioHeader(), ...bytes]);
  for (
    const cuts of [[], [1], [5, 12], [11, 13, 14, 15], [20, 100, 101, 200]]
  ) {
    const ends = [...cuts, all.length];
    const pieces = ends.map((end, i) => ({
      readable: all.slice(i === 0 ? 0 : ends[i - 1], end),
    }));
    bench.drivers.get(0)!.submit([
      { writable: 3 },
      { writable: 20 },
      { writable: 1000 },
    ]);
    bench.transmit(pieces);
    const [{ bytes: received }] = bench.received();
    assertEquals(received, echoed(bytes), `cut at ${cuts}`);
  }
});

ringTest(
  "the largest frame passes, larger and smaller ones are counted",
  () => {
    using bench = new NetBench({ backend: "echo" }, { size: 256 });
    bench.fill(60);
    bench.send(frame(65535 + 18));
    assertEquals(bench.received()[0].bytes.length, 65535 + 18);
    bench.send(frame(65535 + 19));
    assertEquals(bench.count("txGiants"), 1);
    bench.send(frame(13));
    assertEquals(bench.count("txRunts"), 1);
    for (const length of [1, 11]) {
      bench.transmit([{ readable: new Uint8Array(length) }]);
    }
    bench.transmit([{ writable: 100 }]);
    assertEquals(bench.count("txShortHeader"), 3);
    bench.transmit(
      Array.from({ length: 130 }, () => ({ readable: new Uint8Array(2) })),
    );
    assertEquals(bench.count("txGiants"), 2);
    assertEquals([bench.count("txFrames"), bench.received()], [1, []]);
  },
);

ringTest("headers that ask for too much are dropped and counted", () => {
  using bench = new NetBench({ backend: "echo", csum: false });
  bench.fill(4);
  const made = packet();
  bench.send(made.bytes, partialHeader(made));
  bench.send(made.bytes, virtioHeader({ gsoType: 1, gsoSize: 100 }));
  assertEquals(bench.device.metrics.toJSON().badHeaders, {
    "checksum-not-negotiated": 1,
    "gso-type": 1,
  });
  assertEquals(bench.received(), []);
});

ringTest(
  "without receive buffers frames are dropped, and the ring goes on",
  () => {
    using bench = new NetBench({ backend: "echo" });
    bench.send(frame(100));
    bench.send(frame(100));
    assertEquals(bench.count("rxNoBuffer"), 2);
    bench.fill(1);
    bench.run();
    bench.send(frame(100));
    assertEquals(bench.received().length, 1);
    // Too few of them for a long frame: those that are there are kept.
    bench.fill(2);
    bench.send(frame(9000));
    assertEquals([bench.count("rxNoBuffer"), bench.received()], [3, []]);
    bench.send(frame(1000));
    assertEquals(bench.received()[0].bytes.length, 1000);
  },
);

ringTest("an unmerged buffer that is too short loses the frame alone", () => {
  using bench = new NetBench(
    { backend: "echo" },
    { features: without(MRG_RXBUF) },
  );
  bench.fill(1, 200);
  bench.send(frame(300));
  assertEquals([bench.count("rxTooLong"), bench.received()], [1, []]);
  bench.send(frame(188));
  assertEquals(bench.received()[0].bytes.length, 188);
});

ringTest("buffers that cannot be used are given back", () => {
  using bench = new NetBench({ backend: "echo" });
  const driver = bench.drivers.get(0)!;
  driver.submit([{ readable: new Uint8Array(100) }]);
  driver.submit([{ writable: 11 }]);
  bench.fill(1);
  bench.send(frame(100));
  assertEquals(bench.count("rxBadBuffer"), 2);
  assertEquals(driver.reap().map(({ length }) => length), [0, 0, 112]);
  // In the middle of a frame: those before it go too.
  bench.fill(1, 100);
  driver.submit([{ writable: 4 }]);
  bench.fill(2, 100);
  bench.send(frame(150));
  assertEquals(bench.count("rxBadBuffer"), 4);
  assertEquals(driver.reap().map(({ length }) => length), [0, 0, 100, 62]);
});

ringTest("a receiver full of bad buffers costs a sender little", () => {
  using bench = new NetBench({ backend: "echo" }, { size: 256 });
  const driver = bench.drivers.get(0)!;
  for (let i = 0; i < 200; i++) driver.submit([{ writable: 4 }]);
  bench.send(frame(100));
  assertEquals(bench.count("rxBadBuffer"), 32);
  assertEquals(bench.count("rxNoBuffer"), 1);
  // They are used up, a few for each frame.
  for (let i = 0; i < 6; i++) bench.send(frame(100));
  assertEquals(bench.count("rxBadBuffer"), 200);
  bench.fill(1);
  bench.send(frame(100));
  assertEquals(bench.received().map(({ bytes }) => bytes.length), [100]);
});

ringTest("a frame is cut as long as the receiver has room for pieces", () => {
  using bench = new NetBench(
    { backend: "echo" },
    { features: without(GUEST_TSO4) },
  );
  bench.fill(10);
  const made = packet({ payload: 60_000 });
  // A sender may ask for 60,000 pieces.
  bench.send(made.bytes, partialHeader(made, { gsoType: 1, gsoSize: 1 }));
  const sizes = bench.received().map(({ bytes }) => bytes.length);
  assertEquals(sizes, new Array(10).fill(made.payload + 1));
  const status = bench.device.status().software;
  assertEquals((status as { segments: number }).segments, 11);
  assertEquals(bench.count("rxNoBuffer"), 1);
});

ringTest("what the receiver did not agree to is done in software", () => {
  const made = packet({ payload: 3000 });
  const tso = partialHeader(made, { gsoType: 1, gsoSize: 1000 });
  {
    using bench = new NetBench({ backend: "echo" });
    bench.fill(3);
    bench.send(made.bytes, tso);
    const [received] = bench.received();
    assertEquals(received.header.subarray(0, 10), tso.subarray(0, 10));
    assertEquals(received.bytes, echoed(made.bytes));
  }
  {
    using bench = new NetBench(
      { backend: "echo" },
      { features: without(GUEST_TSO4) },
    );
    bench.fill(4);
    bench.send(made.bytes, tso);
    const segments = bench.received();
    assertEquals(segments.length, 3);
    for (const { bytes, header } of segments) {
      assert(sumsHold(bytes, made));
      assertEquals([...header.subarray(0, 10)], new Array(10).fill(0));
    }
    const small = packet();
    bench.send(small.bytes, partialHeader(small));
    assertEquals(bench.received()[0].header[0], 1);
  }
  {
    using bench = new NetBench(
      { backend: "echo" },
      { features: without(GUEST_CSUM) },
    );
    bench.fill(4);
    const small = packet({ ipv6: true, payload: 33 });
    bench.send(small.bytes, partialHeader(small));
    const [{ bytes, header }] = bench.received();
    assert(sumsHold(bytes, small));
    assertEquals(header[0], 0);
    const status = bench.device.status().software;
    assertEquals(status, {
      checksums: 1,
      segmented: 0,
      segments: 0,
      malformed: 0,
    });
    // TCP, it says, and is not.
    bench.send(frame(3000), tso);
    assertEquals(bench.received(), []);
    assertEquals(
      (bench.device.status().software as { malformed: number }).malformed,
      1,
    );
  }
});

ringTest("the link goes down and up", () => {
  using bench = new NetBench({ backend: "echo" });
  const status = () => bench.device.config[6];
  assertEquals(status(), 1);
  bench.fill(1);
  bench.device.command("link", { up: false });
  assertEquals(bench.log.at(-1), "info: the link is down");
  assertEquals([status(), bench.configChanges], [0, 1]);
  assertEquals(bench.send(frame(60)).length, 1);
  assertEquals(bench.count("txLinkDown"), 1);
  bench.device.command("link", { up: true });
  assertEquals(bench.log.at(-1), "info: the link is up");
  assertEquals([status(), bench.configChanges], [1, 2]);
  bench.send(frame(60));
  assertEquals(bench.received().length, 1);
  assertThrows(() => bench.device.command("link", {}), TypeError, "up or down");
  assertThrows(() => bench.device.command("resize", {}), Error, '"resize"');
});

ringTest("the configuration space says what the options say", () => {
  using bench = new NetBench({
    backend: "echo",
    mac: "52:54:00:12:34:56",
    mtu: 9000,
    speed: 10000,
    queues: 3,
    link: "down",
  });
  const { config } = bench.device;
  const view = new DataView(config.buffer);
  assertEquals([...config.subarray(0, 6)], [0x52, 0x54, 0, 0x12, 0x34, 0x56]);
  assertEquals(view.getUint16(6, true), 0);
  assertEquals(view.getUint16(8, true), 3);
  assertEquals(view.getUint16(10, true), 9000);
  assertEquals(view.getUint32(12, true), 10000);
  assertEquals(config[16], 1);
  assertEquals(bench.device.queueCount, 7);
  bench.device.command("mtu", { mtu: 1500 });
  assertEquals(view.getUint16(10, true), 1500);
  for (const mtu of [67, 65536, "1500", 1.5]) {
    assertThrows(() => bench.device.command("mtu", { mtu }), RangeError);
  }
});

ringTest("every feature can be turned off", () => {
  const all = (options: Record<string, unknown>): bigint => {
    using bench = new NetBench({ backend: "echo", ...options });
    return bench.device.features;
  };
  const most = all({
    mac: "52:54:00:12:34:56",
    mtu: 1500,
    speed: 1,
    queues: 2,
  });
  const every = Object.values(NetFeature);
  assertEquals(most, featureMask(...every));
  assertEquals(
    all({
      csum: false,
      guestCsum: false,
      mrgRxbuf: false,
      ctrlVq: false,
    }),
    featureMask(STATUS),
  );
  const { HOST_TSO4, HOST_TSO6, HOST_ECN, HOST_UFO } = NetFeature;
  assertEquals(
    most & ~all({
      mac: "52:54:00:12:34:56",
      mtu: 1500,
      speed: 1,
      queues: 2,
      tso: false,
    }),
    featureMask(HOST_TSO4, HOST_TSO6, HOST_ECN),
  );
  assertEquals(all({ ufo: false }) & featureMask(HOST_UFO), 0n);
});

ringTest("a legacy driver writes its address, a modern one cannot", () => {
  const mac = new Uint8Array([2, 1, 2, 3, 4, 5]);
  const features = without(
    VIRTIO_F_VERSION_1,
    CTRL_VQ,
    NetFeature.CTRL_MAC_ADDR,
  );
  using legacy = new NetBench({ backend: "echo" }, { features });
  mac.forEach((byte, i) =>
    legacy.device.writeConfig(i, new Uint8Array([byte]))
  );
  legacy.device.writeConfig(4, new Uint8Array([4, 5, 0xff, 0xff]));
  assertEquals([...legacy.device.config.subarray(0, 8)], [...mac, 1, 0]);
  legacy.device.reset();
  assertEquals([...legacy.device.config.subarray(0, 6)], [0, 0, 0, 0, 0, 0]);
  using modern = new NetBench({ backend: "echo" });
  modern.device.writeConfig(0, mac);
  assertEquals([...modern.device.config.subarray(0, 6)], [0, 0, 0, 0, 0, 0]);
});

ringTest("several pairs: frames come back on the pair that sent them", () => {
  using bench = new NetBench(
    { backend: "echo", queues: 2 },
    { features: ~0n, pairs: 2 },
  );
  assert((bench.features & featureMask(MQ)) !== 0n);
  assertEquals(bench.controlIndex, 4);
  bench.fill(4, 1526, 0);
  bench.fill(4, 1526, 1);
  bench.run();
  // It is one until the driver says how many.
  bench.send(frame(60), virtioHeader(), 1);
  assertEquals([bench.received(0).length, bench.received(1).length], [1, 0]);
  assertEquals(bench.control(CtrlClass.MQ, 0, [2, 0]), 0);
  bench.fill(1, 1526, 0);
  for (const pair of [0, 1, 1]) bench.send(frame(60), virtioHeader(), pair);
  assertEquals([bench.received(0).length, bench.received(1).length], [1, 2]);
  // One pair: the other one gets nothing.
  assertEquals(bench.control(CtrlClass.MQ, 0, [1, 0]), 0);
  bench.send(frame(60), virtioHeader(), 1);
  assertEquals([bench.received(0).length, bench.received(1).length], [1, 0]);
  assertEquals(bench.control(CtrlClass.MQ, 0, [2, 0]), 0);
  bench.send(frame(60), virtioHeader(), 1);
  assertEquals([bench.received(0).length, bench.received(1).length], [0, 1]);
  for (const bad of [[0, 0], [3, 0], [1]]) {
    assertEquals(bench.control(CtrlClass.MQ, 0, bad), 1);
  }
  // A pair that stops takes its frames elsewhere.
  bench.stop(2);
  bench.send(frame(60, BROADCAST), virtioHeader(), 1);
  assertEquals(bench.received(0).length, 1);
});

ringTest(
  "several pairs: all that run, where the front-end answers commands",
  () => {
    using bench = new NetBench(
      { backend: "echo", queues: 3 },
      { features: ~0n, pairs: 2, control: false },
    );
    assertEquals(bench.device.status().queuePairs, 2);
    // Known from the start on: nothing was served yet.
    bench.fill(4, 1526, 1);
    bench.send(frame(60), virtioHeader(), 1);
    assertEquals([bench.received(0).length, bench.received(1).length], [0, 1]);
  },
);

ringTest("a reset forgets what was negotiated", () => {
  using bench = new NetBench({ backend: "echo" });
  bench.control(CtrlClass.RX, 0, [0]);
  for (const index of [0, 1, 2]) bench.stop(index);
  bench.device.reset();
  const status = bench.device.status();
  assertEquals(status.headerSize, 10);
  assertEquals(status.transmitOffloads, []);
  assertEquals((status.filter as { promisc: boolean }).promisc, true);
});

ringTest("a new driver is noticed, although nobody said so", () => {
  using bench = new NetBench({ backend: "echo" });
  const filter = () =>
    bench.device.status().filter as { promisc: boolean; allmulti: boolean };
  const restart = (again: boolean) => {
    const positions = [0, 1, 2].map((index) => {
      const { position } = bench.queues.get(index)!;
      bench.stop(index);
      return position;
    });
    bench.device.activate();
    for (const index of [0, 1, 2]) {
      bench.start(index, again ? 0 : positions[index]);
    }
  };
  bench.control(CtrlClass.RX, 0, [0]);
  assertEquals(filter().promisc, false);
  // A machine that was paused.
  restart(false);
  bench.control(CtrlClass.RX, 1, [1]);
  assertEquals([filter().promisc, filter().allmulti], [false, true]);
  // The same driver, loaded again: its first command ends what was.
  restart(true);
  bench.control(CtrlClass.RX, 1, [0]);
  assertEquals([filter().promisc, filter().allmulti], [true, false]);
  bench.control(CtrlClass.RX, 0, [0]);
  // Dirty logging comes and goes.
  bench.device.negotiate(bench.features | featureMask(26));
  bench.device.negotiate(bench.features);
  assertEquals(filter().promisc, false);
  // Another driver.
  bench.device.negotiate(bench.features & ~featureMask(NetFeature.CTRL_RX));
  assertEquals(filter().promisc, true);
});
