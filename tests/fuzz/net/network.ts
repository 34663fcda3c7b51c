/**
 * Network devices whose every step is judged: through a switch between two, or
 * one that gets back what it sends.
 *
 * Theory of operation. A frame is delivered while it is sent, so whatever
 * receive buffers are answered between the taking of a transmit chain and its
 * answer belong to that frame. Each transmit chain is judged by the model; what
 * is received is compared with what was sent, finished as far as the receiver
 * did not agree to do it. Only as many bytes of a receive buffer as the device
 * says it wrote may differ, and the counters of both sides add up.
 *
 * @module
 */

import { expect, type Observer } from "../engine/target.ts";
import { type DeviceDriver, RING_SIZE } from "../device/driver.ts";
import {
  type QueueWatch,
  readPart,
  type WatchedQueue,
} from "../device/watched_queue.ts";
import type { FuzzMemory } from "../memory/fuzz_memory.ts";
import { watchReads } from "../memory/racing_reads.ts";
import { piecesOf } from "../ring/chain_check.ts";
import { type ModelChain, totalOf } from "../ring/model.ts";
import type { NetDevice } from "../../../backends/net/device.ts";
import createNet from "../../../backends/net/mod.ts";
import type { GuestMemory } from "../../../virtqueue/memory.ts";
import type { VirtQueue } from "../../../virtqueue/queue.ts";
import {
  checkAgreed,
  compareFrames,
  Feature,
  has,
  headerSize,
  judge,
  MAX_FRAME,
  MIN_FRAME,
  type Refusal,
  type Sent,
} from "./model.ts";

/** Regions of memory: address and length. */
export const REGIONS = [
  [0x10_0000, 0x8000],
  [0x10_8000, 0x1000],
  [0x20_0000, 0x4000],
  [2 ** 52, 0x1000],
] as const;
/** No memory is here. */
export const HOLE = 0x18_0000;
const MOST_READS = 4_000_000;
const BUDGET = 8;
const MOST_TURNS = 200;

const MACS = ["02:00:00:00:00:0a", "02:00:00:00:00:0b"];

/** A device with what is known of it. */
export interface Side {
  readonly device: NetDevice;
  readonly features: bigint;
  readonly pairs: number;
  /** Number of its first ring. */
  readonly first: number;
  link: boolean;
  /** What it has to count. */
  readonly counts: Record<Refusal | "txFrames" | "txBytes", number>;
  rxFrames: number;
  rxBytes: number;
  rxBadBuffer: number;
  commands: number;
}

/** A frame that is being received. */
interface Arriving {
  readonly header: Uint8Array<ArrayBuffer>;
  readonly parts: Uint8Array<ArrayBuffer>[];
  /** Buffers to come. */
  left: number;
  /** Places do not overlap: the bytes can be compared. */
  sound: boolean;
}

/** When a word changes, and how. */
export interface Race {
  readonly moment: number;
  readonly how: number;
}

/** Devices that exchange frames. */
export class Network implements QueueWatch {
  readonly sides: Side[] = [];
  readonly #memory: FuzzMemory;
  readonly #shared: GuestMemory;
  readonly #observer: Observer;
  readonly #driver: DeviceDriver;
  readonly #owners = new Map<VirtQueue, Side>();
  readonly #parked = new Set<VirtQueue>();
  /** What is being sent. */
  #sending: { sent: Sent | null; chain: ModelChain } | null = null;
  #arriving: Arriving | null = null;
  /** Memory changed while the device read it. */
  #raced = false;
  /** What is received cannot be told apart, up to the end of what is sent. */
  #blurred = false;

  constructor(
    memory: FuzzMemory,
    shared: GuestMemory,
    driver: DeviceDriver,
    observer: Observer,
  ) {
    this.#memory = memory;
    this.#shared = shared;
    this.#driver = driver;
    this.#observer = observer;
  }

  /** Makes a device that accepts all features but some, and starts its rings. */
  plug(
    options: Readonly<Record<string, unknown>>,
    mask: bigint,
    eventIdx: boolean,
  ): void {
    const mac = MACS[this.sides.length];
    const device = createNet({ ...options, mac, mtu: 1500 }, {
      memory: this.#shared,
      slotsPerQueue: RING_SIZE,
      worker: 0,
      ring: () => null,
      configChanged() {},
      resume: (queue) => void this.#parked.delete(queue),
      watch() {},
      log() {},
    }) as NetDevice;
    this.#start(device, mask, eventIdx);
  }

  #start(device: NetDevice, mask: bigint, eventIdx: boolean): void {
    const features = (device.features | 1n << 32n) & ~mask;
    const side: Side = {
      device,
      features,
      pairs: device.pairs,
      first: this.#driver.queues.length,
      link: true,
      counts: {
        txFrames: 0,
        txBytes: 0,
        txShortHeader: 0,
        txRunts: 0,
        txGiants: 0,
        txLinkDown: 0,
        badHeaders: 0,
      },
      rxFrames: 0,
      rxBytes: 0,
      rxBadBuffer: 0,
      commands: 0,
    };
    this.sides.push(side);
    device.negotiate(features);
    device.activate();
    for (let i = 0; i < device.queueCount; i++) {
      const traits = { maxSegments: device.maxSegments, eventIdx };
      const queue = this.#driver.start(i, traits, this);
      this.#owners.set(queue, side);
      device.start(queue);
    }
  }

  #isControl({ index }: VirtQueue, { pairs, features }: Side): boolean {
    return index >= 2 * pairs ||
      index === 2 && has(features, 17) && !has(features, 22);
  }

  taken(queue: WatchedQueue, chain: ModelChain): void {
    const side = this.#owners.get(queue)!;
    if (this.#isControl(queue, side) || queue.index % 2 === 0) return;
    const total = totalOf(chain.readable);
    const bytes = readPart(
      this.#memory,
      chain.readable,
      0,
      Math.min(total, MAX_FRAME + 20),
    );
    const found = judge(
      bytes,
      {
        buffers: chain.readable.length + chain.writable.length,
        pieces: piecesOf(this.#memory, chain.readable).length +
          piecesOf(this.#memory, chain.writable).length,
      },
      side.features,
      side.link,
    );
    this.#sending = { sent: typeof found === "string" ? null : found, chain };
    if (this.#raced) return;
    if (typeof found === "string") side.counts[found]++;
    else {
      side.counts.txFrames++;
      side.counts.txBytes += found.bytes.length;
    }
  }

  completed(queue: WatchedQueue, chain: ModelChain, written: number): number {
    const side = this.#owners.get(queue)!;
    if (this.#isControl(queue, side)) {
      side.commands++;
      const right = Math.min(1, totalOf(chain.writable));
      expect(written === right, () => `${written} bytes answer a command`);
      return written;
    }
    if (queue.index % 2 === 1) {
      expect(written === 0, () => `${written} bytes answer a frame`);
      expect(this.#sending?.chain === chain, () => "frames out of order");
      expect(this.#arriving === null, () => "a frame lacks buffers");
      this.#sending = null;
      if (this.#blurred) this.#adoptReceived();
      this.#blurred = false;
      return 0;
    }
    expect(this.#sending !== null, () => "a buffer is used for nothing");
    return written;
  }

  adopted(queue: WatchedQueue, chain: ModelChain, written: number): void {
    const side = this.#owners.get(queue)!;
    if (this.#isControl(queue, side)) {
      const [answer] = readPart(this.#memory, chain.writable, 0, written);
      expect(
        written === 0 || answer < 2,
        () => `a command's answer: ${answer}`,
      );
      this.#observer.reached(answer | 2);
      return;
    }
    if (queue.index % 2 === 1) return;
    if (written === 0) {
      side.rxBadBuffer++;
      expect(this.#arriving === null, () => "a buffer within a frame is empty");
      return;
    }
    this.#receive(
      side,
      chain,
      readPart(
        this.#memory,
        chain.writable,
        0,
        written,
      ),
    );
  }

  #receive(
    side: Side,
    chain: ModelChain,
    bytes: Uint8Array<ArrayBuffer>,
  ): void {
    const size = headerSize(side.features);
    const sound = this.#disjoint(chain);
    if (this.#arriving === null) {
      const merged = has(side.features, Feature.MRG_RXBUF);
      // Nobody knows how many buffers it has whose header was written over.
      this.#blurred ||= merged && !sound;
      if (this.#blurred) return;
      expect(bytes.length >= size, () => `${bytes.length} bytes are received`);
      const left = merged ? bytes[10] | bytes[11] << 8 : 1;
      expect(left >= 1 && left <= 16, () => `a frame of ${left} buffers`);
      const header = bytes.slice(0, size);
      this.#arriving = { header, parts: [bytes.slice(size)], left, sound };
    } else {
      this.#arriving.parts.push(bytes);
      this.#arriving.sound &&= sound;
    }
    if (--this.#arriving.left > 0) return;
    const { header, parts, sound: comparable } = this.#arriving;
    this.#arriving = null;
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    side.rxFrames++;
    side.rxBytes += length;
    this.#observer.reached(
      8 | Math.min(parts.length, 7) << 4 | (length > 1600 ? 1 : 0) << 7 |
        header[0] << 8 | header[1] << 16,
    );
    this.#say(`received ${length} bytes, header ${header}`);
    if (!comparable) return;
    expect(
      length >= MIN_FRAME && length <= MAX_FRAME,
      () => `a frame of ${length} bytes is received`,
    );
    checkAgreed(header, side.features);
    const { sent } = this.#sending!;
    if (this.#raced) return;
    expect(sent !== null, () => "what was not sent is received");
    const whole = new Uint8Array(length);
    let at = 0;
    for (const part of parts) {
      whole.set(part, at);
      at += part.length;
    }
    if (this.sides.length === 1) swap(whole);
    compareFrames(sent, header, whole);
  }

  /** Whether a buffer overlaps neither itself nor what is being sent, nor rings. */
  #disjoint(chain: ModelChain): boolean {
    const places = [...chain.writable, ...this.#sending!.chain.readable];
    const [rings, size] = REGIONS[2];
    places.push({ address: BigInt(rings), length: size });
    return places.every(({ address, length }, i) =>
      places.every((other, j) =>
        // What is sent may be repeated.
        i >= j || i >= chain.writable.length && j < places.length - 1 ||
        address + BigInt(length) <= other.address ||
        other.address + BigInt(other.length) <= address
      )
    );
  }

  /** The rings of a device stop and go on; perhaps for another driver. */
  restart(side: Side, reset: boolean): void {
    const { device } = side;
    for (const queue of this.#driver.queues) {
      if (this.#owners.get(queue) !== side) continue;
      device.quiesce(queue);
      expect(queue.inFlight === 0, () => `queue ${queue.index} is not drained`);
      this.#parked.delete(queue);
    }
    if (reset) {
      device.reset();
      device.negotiate(side.features);
    }
    device.activate();
    for (const queue of this.#driver.queues) {
      if (this.#owners.get(queue) === side) device.start(queue);
    }
    this.#say(`restarted, reset: ${reset}`);
  }

  /** Serves until nothing moves. */
  turn(race: Race | null): void {
    let racing = race;
    for (let i = 0;; i++) {
      let progress = false;
      for (const queue of this.#driver.queues) {
        if (this.#parked.has(queue) || !queue.ready) continue;
        progress = true;
        this.#parked.add(queue);
        if (this.#serve(queue, racing)) this.#parked.delete(queue);
        racing = null;
      }
      if (!progress) break;
      expect(i < MOST_TURNS, () => `no end after ${i} turns`);
    }
    this.#driver.settle("a turn");
    this.#count();
  }

  #serve(
    queue: WatchedQueue,
    race: Race | null,
  ): boolean {
    const { device } = this.#owners.get(queue)!;
    const options = { limit: MOST_READS };
    if (race === null) {
      return watchReads(options, () => device.serve(queue, BUDGET));
    }
    const memory = this.#memory;
    this.#raced = true;
    const rings = BigInt(REGIONS[2][0]);
    const result = watchReads({
      ...options,
      moment: race.moment % 64,
      back: race.how % 16,
      change(place) {
        const address = memory.addressOf(place);
        if (address === null) return;
        // Rings have a target of their own.
        if (address >= rings && address < rings + 0x4000n) return;
        const word = memory.wordAt(address);
        memory.driverPut(address, 4, (word ^ 1 << (race.how >> 3)) >>> 0);
      },
    }, () => device.serve(queue, BUDGET));
    this.#raced = false;
    this.#adoptCounts();
    return result;
  }

  #adoptReceived(): void {
    for (const side of this.sides) {
      side.rxFrames = side.device.metrics.rxFrames;
      side.rxBytes = side.device.metrics.rxBytes;
    }
  }

  /** Nobody knows what a frame was that changed while it was sent. */
  #adoptCounts(): void {
    for (const { device: { metrics }, counts } of this.sides) {
      const { badHeaders, ...others } = metrics.toJSON();
      const numbers = others as Record<string, number>;
      for (const name of Object.keys(counts) as (keyof typeof counts)[]) {
        if (name !== "badHeaders") counts[name] = numbers[name];
      }
      counts.badHeaders = total(badHeaders);
    }
  }

  /** Stops everything. */
  finish(): void {
    this.turn(null);
    for (const queue of this.#driver.queues) {
      this.#owners.get(queue)!.device.quiesce(queue);
      const { index, inFlight } = queue;
      expect(inFlight === 0, () => `queue ${index} is not drained`);
      const { pairs } = this.#owners.get(queue)!;
      expect(
        index >= 2 * pairs || index % 2 === 0 || !queue.ready,
        () => `transmit queue ${index} is not served`,
      );
    }
    this.#driver.settle("the end");
    for (const side of this.sides) this.#balance(side);
  }

  /** Gives everything back. */
  close(): void {
    for (const { device } of this.sides) device.close();
  }

  /** Counters add up. */
  #count(): void {
    this.sides.forEach((side, i) => {
      const { metrics } = side.device;
      const numbers = metrics.toJSON() as Record<string, number>;
      const { counts } = side;
      const found = {
        ...Object.fromEntries(
          Object.keys(counts).map((name) => [name, numbers[name]]),
        ),
        badHeaders: total(numbers.badHeaders),
        rxFrames: metrics.rxFrames,
        rxBytes: metrics.rxBytes,
        rxBadBuffer: metrics.rxBadBuffer,
        commands: metrics.commands,
      };
      const { rxFrames, rxBytes, rxBadBuffer, commands } = side;
      const right = { ...counts, rxFrames, rxBytes, rxBadBuffer, commands };
      const is = JSON.stringify(found), should = JSON.stringify(right);
      expect(is === should, () => `device ${i} counts ${is}, not ${should}`);
    });
  }

  /** Every frame that was sent was delivered, or its loss was counted. */
  #balance(side: Side): void {
    const { metrics } = side.device;
    const status = side.device.status();
    const software = status.software as Record<string, number>;
    const other = this.sides.find((one) => one !== side);
    let came = metrics.txFrames;
    if (other !== undefined) {
      const { ports } = other.device.status().switch as {
        ports: { received: number; local: number; label: string }[];
      };
      const label = MACS[this.sides.indexOf(other)];
      const port = ports.find((one) => one.label.includes(label))!;
      came = port.received - port.local;
      expect(
        port.received === other.device.metrics.txFrames,
        () => `the switch got ${port.received} frames`,
      );
    }
    const early = metrics.rxFiltered + metrics.rxLinkDown + metrics.rxBadLength;
    const { segmented, segments, malformed } = software;
    const ended = metrics.rxFrames + metrics.rxNoBuffer + metrics.rxTooLong;
    expect(
      came - early - malformed - segmented + segments === ended,
      () =>
        `${came} frames came, ${early} were kept away, ${ended} ended, ` +
        JSON.stringify(software),
    );
  }

  #say(line: string): void {
    this.#observer.say?.(line);
  }
}

function total(counters: unknown): number {
  return Object.values(counters as Record<string, number>)
    .reduce((sum, count) => sum + count, 0);
}

function swap(frame: Uint8Array): void {
  const from = frame.slice(6, 12);
  frame.copyWithin(6, 0, 6);
  frame.set(from);
}
