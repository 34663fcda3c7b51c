/**
 * Sends the same requests over and over and allocates nothing for it itself: run
 * by `hot_path_test.ts` in a process of its own, which counts the collections
 * between the lines that this prints.
 *
 * Theory of operation. Chains lie in memory beforehand, each in an indirect table,
 * and come by again and again: a driver of a split ring moves its index on, one of
 * a packed ring writes its descriptors over the device's answers. Storage and
 * offsets are so large that an offset in bytes is no small integer.
 *
 * @module
 */

import {
  featureMask,
  VIRTIO_F_VERSION_1,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from "../../../virtqueue/constants.ts";
import { marksAt } from "../../../virtqueue/packed_ring.ts";
import { FakeDriver } from "../../../virtqueue/testing/driver.ts";
import {
  RING_PROFILES,
  withRings,
} from "../../../virtqueue/testing/ring_profile.ts";
import { MemoryEngine } from "../../storage/memory_engine.ts";
import { openStorage } from "../../storage/open.ts";
import type { Storage } from "../../storage/storage.ts";
import { TestRing } from "../../storage/testing/test_ring.ts";
import {
  RANGE_FLAG_UNMAP,
  SECTOR_SIZE,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "../protocol.ts";
import { BlkBench, header, join, MODERN, ranges } from "./bench.ts";

/** Bytes of the disk, which has none that was written at first. */
const DISK = 6 * 2 ** 30;
/** Bytes that a request moves, discards in each range, or zeroes. */
const DATA = 4096;
/** The first sector that requests are about: 5 GiB from the start. */
const FIRST = 5 * 2 ** 30 / SECTOR_SIZE;
/** Requests that are available at once. */
const BATCH = 8;
/** The part of the requests that is sent before anything is counted. */
const WARM_UP = 4;
/** Turns after which requests must have been answered. */
const MOST_TURNS = 1000;

/** What is measured: one kind of request. */
interface Part {
  readonly name: string;
  readonly type: number;
  /** Ranges of each request (default: none). */
  readonly ranges?: number;
  /** Their flags. */
  readonly flags?: number;
  /** No FLUSH was negotiated: answers wait until data is durable. */
  readonly writethrough?: boolean;
  /** Requests are tracked. */
  readonly tracked?: boolean;
  /** Engines over which there would be nothing new. */
  readonly except?: readonly string[];
}

const PARTS: readonly Part[] = [
  { name: "READ", type: VIRTIO_BLK_T_IN },
  { name: "WRITE", type: VIRTIO_BLK_T_OUT },
  {
    name: "WRITE_durable",
    type: VIRTIO_BLK_T_OUT,
    writethrough: true,
    except: ["sync", "io_uring"],
  },
  { name: "FLUSH", type: VIRTIO_BLK_T_FLUSH },
  { name: "DISCARD", type: VIRTIO_BLK_T_DISCARD, ranges: 1 },
  {
    name: "WRITE_ZEROES",
    type: VIRTIO_BLK_T_WRITE_ZEROES,
    ranges: 2,
    except: ["io_uring"],
  },
  {
    name: "WRITE_ZEROES_unmap",
    type: VIRTIO_BLK_T_WRITE_ZEROES,
    ranges: 1,
    flags: RANGE_FLAG_UNMAP,
    except: ["io_uring"],
  },
  {
    name: "READ_tracked",
    type: VIRTIO_BLK_T_IN,
    tracked: true,
    except: ["sync", "io_uring"],
  },
];

/** Writes a chain to memory as an indirect table; where it lies. */
function layTable(bench: BlkBench, part: Part, index: number): number {
  const { memory, drivers: [{ packed }] } = bench;
  const sector = FIRST + index * 64;
  const list = Array.from(
    { length: part.ranges ?? 0 },
    (_, i): [number, number, number] => [
      sector + i * 16,
      DATA / SECTOR_SIZE,
      part.flags ?? 0,
    ],
  );
  const readable = join(header(part.type, sector), ranges(...list));
  const start = memory.allocate(readable.length, 16);
  memory.write(start, readable);
  const buffers: [address: number, length: number, flags: number][] = [
    [start, readable.length, 0],
  ];
  if (part.type === VIRTIO_BLK_T_IN) {
    buffers.push([memory.allocate(DATA, DATA), DATA, VIRTQ_DESC_F_WRITE]);
  } else if (part.type === VIRTIO_BLK_T_OUT) {
    buffers.push([memory.allocate(DATA, DATA), DATA, 0]);
  }
  buffers.push([memory.allocate(1), 1, VIRTQ_DESC_F_WRITE]);
  const last = buffers.length - 1;
  const words = buffers.flatMap(([address, length, flags], i) => {
    if (packed) return [address, 0, length, flags << 16];
    const next = i < last ? VIRTQ_DESC_F_NEXT | (i + 1) << 16 : 0;
    return [address, 0, length, flags | next];
  });
  const table = memory.allocate(4 * words.length, 16);
  memory.write(table, new Uint8Array(Uint32Array.from(words).buffer));
  return table;
}

/** Makes the same requests available again and again, a batch at a time. */
function repeater(bench: BlkBench, part: Part): () => void {
  const driver = bench.drivers[0], { memory } = bench;
  const { size, descriptorTable } = driver;
  const tables = Array.from(
    { length: BATCH },
    (_, i) => layTable(bench, part, i),
  );
  const count = part.type === VIRTIO_BLK_T_IN || part.type === VIRTIO_BLK_T_OUT
    ? 3
    : 2;
  if (driver instanceof FakeDriver) {
    tables.forEach((address, i) =>
      driver.setDescriptor(i, {
        address,
        length: 16 * count,
        flags: VIRTQ_DESC_F_INDIRECT,
      })
    );
    for (let i = 0; i < size; i++) driver.setAvailable(i, i % BATCH);
    let index = 0;
    return () => driver.setAvailableIndex(index = (index + BATCH) & 0xffff);
  }
  const { buffer, byteOffset } = memory.bytes(descriptorTable, 16 * size);
  const ring = new Uint32Array(buffer, byteOffset, 4 * size);
  const words = Uint32Array.from(tables);
  let position = 0;
  return () => {
    for (let i = 0; i < BATCH; i++) {
      const at = 4 * (position < size ? position : position - size);
      ring[at] = words[i];
      ring[at + 2] = 16 * count;
      ring[at + 3] = (VIRTQ_DESC_F_INDIRECT | marksAt(position, size)) << 16 |
        i;
      position = position + 1 < 2 * size ? position + 1 : 0;
    }
  };
}

function openDisk(engine: string, path: string, ring: TestRing): Storage {
  if (engine === "memory") {
    return new MemoryEngine({ size: DISK, blockSize: 512, readOnly: false });
  }
  Deno.writeFileSync(path, new Uint8Array());
  Deno.truncateSync(path, DISK);
  return openStorage({ path, engine }, ring.get);
}

/** Sends requests of one kind, counted after the first of them. */
function measure(
  part: Part,
  engine: string,
  path: string,
  requests: number,
): void {
  using ring = new TestRing();
  using bench = new BlkBench({
    storage: openDisk(engine, path, ring),
    features: part.writethrough ? featureMask(VIRTIO_F_VERSION_1) : MODERN,
    tracked: part.tracked,
  });
  const { device } = bench, { metrics } = device, queue = bench.queues[0];
  bench.drivers[0].disableInterrupt();
  const offer = repeater(bench, part);
  const run = (count: number): void => {
    for (let done = 0; done < count; done += BATCH) {
      offer();
      const goal = metrics.completed + BATCH;
      device.serve(queue, BATCH);
      let turns = 0;
      while (metrics.completed < goal) {
        if (++turns > MOST_TURNS) throw new Error(`${part.name} does not end`);
        device.poll();
        if (metrics.completed < goal) ring.wait();
      }
      queue.publish();
    }
  };
  // The first part compiles; what is compiled is what a device runs.
  run(requests / WARM_UP);
  console.log("begin", part.name);
  run(requests);
  console.log("end", part.name);
  const { reads, writes, durableWrites, flushes, discards, writeZeroes } =
    metrics;
  const good = reads + writes + flushes + discards + writeZeroes;
  if (good !== requests + requests / WARM_UP) {
    throw new Error(`${part.name}: ${good} requests were done`);
  }
  if (part.writethrough && durableWrites !== good) {
    throw new Error(`${part.name}: ${durableWrites} were durable`);
  }
}

/** Prints the collections of a part that leaves a number for each request. */
function control(requests: number): void {
  const numbers: unknown[] = ["no array of numbers, which has them inside"];
  console.log("begin", "control");
  for (let i = 0; i < requests; i++) numbers[i & 7] = i + 0.5;
  console.log("end", "control", numbers.length);
}

/** Does all of it; arguments: engine, ring, path of an image, requests. */
export function main(args: readonly string[]): void {
  const [engine, layout, path, requests] = args;
  const profile = RING_PROFILES.find(({ packed, legacy, eventIdx, indirect }) =>
    packed === (layout === "packed") && !legacy && eventIdx && indirect
  )!;
  withRings(profile, () => {
    for (const part of PARTS) {
      if (part.except?.includes(engine)) continue;
      measure(part, engine, path, Number(requests));
    }
  });
  control(Number(requests));
}
