import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { featureMask } from "../../virtqueue/constants.ts";
import type { FakeBuffer } from "../../virtqueue/testing/driver.ts";
import { NetFeature } from "./protocol.ts";
import { EVERYTHING, NetBench } from "./testing/bench.ts";
import { packet } from "./testing/packets.ts";
import { profileRuns, ringTest } from "../../virtqueue/testing/ring_profile.ts";

const { MRG_RXBUF, GUEST_CSUM, GUEST_TSO4, GUEST_UFO } = NetFeature;
const VERSION_1 = 32;

/** Drivers that differ in layout and in what is done for them. */
const FEATURES = [
  EVERYTHING,
  EVERYTHING & ~featureMask(MRG_RXBUF),
  EVERYTHING & ~featureMask(VERSION_1, MRG_RXBUF, GUEST_TSO4),
  EVERYTHING & ~featureMask(GUEST_CSUM),
  EVERYTHING & ~featureMask(GUEST_TSO4, GUEST_UFO),
];

/** Bytes that are nearly a header, and nearly a packet. */
const contents = fc.record({
  header: fc.uint8Array({ minLength: 12, maxLength: 12 }),
  sane: fc.boolean(),
  gsoType: fc.constantFrom(0, 1, 3, 4, 0x81, 0x84, 2),
  gsoSize: fc.integer({ min: 0, max: 3000 }),
  csumStart: fc.constantFrom(14, 34, 38, 54, 58),
  csumOffset: fc.constantFrom(6, 16),
  options: fc.record({
    payload: fc.integer({ min: 0, max: 4000 }),
    ipv6: fc.boolean(),
    udp: fc.boolean(),
    vlan: fc.option(fc.integer({ min: 0, max: 4095 }), { nil: undefined }),
  }),
  damage: fc.array(fc.tuple(fc.nat(80), fc.nat(255)), { maxLength: 4 }),
  cuts: fc.array(fc.nat(4100), { maxLength: 6 }),
  drop: fc.nat(60),
});

type Contents = typeof contents extends fc.Arbitrary<infer T> ? T : never;

/** A chain of a driver that may be mad. */
function chainOf(given: Contents): FakeBuffer[] {
  const { header, options, damage, cuts, drop } = given;
  if (given.sane) {
    const view = new DataView(header.buffer, header.byteOffset);
    header[0] = 1;
    header[1] = given.gsoType;
    view.setUint16(2, 0, true);
    view.setUint16(4, given.gsoSize, true);
    view.setUint16(6, given.csumStart, true);
    view.setUint16(8, given.csumOffset, true);
  }
  const { bytes } = packet(options);
  for (const [at, value] of damage) bytes[at] = value;
  const all = new Uint8Array([...header, ...bytes]);
  const end = Math.max(0, all.length - drop);
  const ends = [...cuts.filter((cut) => cut < end), end]
    .toSorted((a, b) => a - b);
  return ends.map((to, i) => ({
    readable: all.slice(i === 0 ? 0 : ends[i - 1], to),
  }));
}

ringTest("whatever drivers send, frames end and rings go on", () => {
  const rounds = fc.array(
    fc.record({
      chain: contents,
      buffers: fc.array(fc.integer({ min: 1, max: 5000 }), { maxLength: 4 }),
    }),
    { minLength: 1, maxLength: 12 },
  );
  fc.assert(
    fc.property(rounds, fc.nat(FEATURES.length - 1), (rounds, which) => {
      const features = FEATURES[which];
      using bench = new NetBench({ backend: "echo" }, { features, size: 128 });
      let sent = 0;
      for (const { chain, buffers } of rounds) {
        for (const size of buffers) bench.fill(1, size);
        // A driver that checks what comes back: nothing twice, nothing too long.
        sent += bench.transmit(chainOf(chain)).length;
        for (const { bytes, header } of bench.received()) {
          assert(bytes.length >= 14 || bytes.length === 0);
          if ((features & featureMask(GUEST_CSUM)) === 0n) {
            assertEquals([header[0], header[1]], [0, 0]);
          }
        }
      }
      assertEquals(sent, rounds.length);
      // And a frame that is in order still passes, once the driver has buffers
      // for it: one that is too short stays the first.
      bench.stop(0);
      bench.start(0);
      bench.fill(1);
      bench.run();
      bench.send(packet().bytes);
      assertEquals(
        bench.received().at(-1)?.bytes.length,
        packet().bytes.length,
      );
    }),
    { numRuns: profileRuns(800) },
  );
});

ringTest("whatever commands say, each is answered", () => {
  const commands = fc.array(
    fc.tuple(fc.nat(7), fc.nat(7), fc.array(fc.nat(255), { maxLength: 40 })),
    { minLength: 1, maxLength: 20 },
  );
  fc.assert(
    fc.property(commands, (commands) => {
      using bench = new NetBench({ backend: "echo", queues: 3 }, {
        features: ~0n,
      });
      for (const [kind, command, data] of commands) {
        const answer = bench.control(kind, command, data);
        assert(answer === 0 || answer === 1);
      }
      assertEquals(bench.control(0, 0, [1]), 0);
    }),
    { numRuns: profileRuns(400) },
  );
});
