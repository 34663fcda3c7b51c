import { assertEquals } from "@std/assert";
import fc from "fast-check";
import type { FakeBuffer } from "../../virtqueue/testing/driver.ts";
import { ALL_ENGINES, storageTest } from "../storage/testing/engines.ts";
import {
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "./protocol.ts";
import { BlkBench, header, join, pattern, ranges } from "./testing/bench.ts";
import { profileRuns } from "../../virtqueue/testing/ring_profile.ts";

const SIZE = 2 ** 18;
const SECTORS = SIZE / 512;

/** A request as a driver may make it, sensible or not. */
interface Attempt {
  readonly type: number;
  readonly sector: number;
  /** Sectors of data. */
  readonly count: number;
  /** Bytes of data beyond whole sectors. */
  readonly extra: number;
  /** Where the readable part is cut. */
  readonly readableCuts: readonly number[];
  /** Where the writable part is cut. */
  readonly writableCuts: readonly number[];
  readonly indirect: boolean;
}

const cuts = fc.array(fc.nat({ max: 20 * 512 }), { maxLength: 6 });
const attempt: fc.Arbitrary<Attempt> = fc.record({
  type: fc.constantFrom(
    VIRTIO_BLK_T_IN,
    VIRTIO_BLK_T_OUT,
    VIRTIO_BLK_T_DISCARD,
    VIRTIO_BLK_T_WRITE_ZEROES,
  ),
  sector: fc.oneof(
    { weight: 9, arbitrary: fc.nat({ max: SECTORS + 4 }) },
    { weight: 1, arbitrary: fc.constantFrom(2 ** 32, 2 ** 53, 2 ** 63) },
  ),
  count: fc.nat({ max: 17 }),
  extra: fc.oneof(
    { weight: 9, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: 511 }) },
  ),
  readableCuts: cuts,
  writableCuts: cuts,
  indirect: fc.boolean(),
});

/** Lengths of the pieces that cuts make of a length. */
function pieces(length: number, at: readonly number[]): number[] {
  const points = [...new Set(at.filter((cut) => cut > 0 && cut < length))];
  points.sort((a, b) => a - b);
  points.push(length);
  return points.map((point, i) => point - (i === 0 ? 0 : points[i - 1]));
}

function buffersOf(
  readable: Uint8Array,
  writable: number,
  { readableCuts, writableCuts }: Attempt,
): FakeBuffer[] {
  let at = 0;
  const read = pieces(readable.length, readableCuts).map((length) => ({
    readable: readable.slice(at, at += length),
  }));
  const write = pieces(writable, writableCuts).map((writable) => ({
    writable,
  }));
  return [...read, ...write];
}

/** What a device must do, on a disk that is an array. */
function expected(
  { type, sector, count, extra }: Attempt,
  data: Uint8Array,
  disk: Uint8Array,
): { status: number; read: Uint8Array | null } {
  const ranged = type === VIRTIO_BLK_T_DISCARD ||
    type === VIRTIO_BLK_T_WRITE_ZEROES;
  if ((extra !== 0 && !ranged) || sector + count > SECTORS) {
    return { status: VIRTIO_BLK_S_IOERR, read: null };
  }
  const from = sector * 512, to = from + count * 512;
  const status = VIRTIO_BLK_S_OK;
  if (type === VIRTIO_BLK_T_IN) return { status, read: disk.slice(from, to) };
  if (ranged) disk.fill(0, from, to);
  else disk.set(data, from);
  return { status, read: null };
}

storageTest("does what an array of sectors would do", () => {
  fc.assert(
    fc.property(fc.array(attempt, { minLength: 1, maxLength: 30 }), (all) => {
      using bench = new BlkBench({ size: SIZE });
      const disk = pattern(SIZE, 1);
      all.forEach((one, i) => {
        const { type, sector, count, extra } = one;
        const data = pattern(count * 512 + extra, i);
        const start = header(type, sector);
        const payload = type === VIRTIO_BLK_T_OUT
          ? data
          : type === VIRTIO_BLK_T_IN
          ? new Uint8Array()
          : ranges([sector, count]);
        const room = type === VIRTIO_BLK_T_IN ? data.length + 1 : 1;
        const answer = bench.submit(
          buffersOf(join(start, payload), room, one),
          one.indirect,
        );
        const { status, read } = expected(one, data, disk);
        assertEquals(answer.status, status);
        assertEquals(answer.length, 1 + (read?.length ?? 0));
        if (read !== null) assertEquals(answer.data, read);
      });
      assertEquals(bench.image(), disk);
    }),
    { numRuns: profileRuns(120) },
  );
}, ALL_ENGINES);
