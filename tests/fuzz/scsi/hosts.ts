/**
 * SCSI hosts whose every step is judged, with disks and CD-ROMs on real
 * storage.
 *
 * Theory of operation. Two SCSI hosts serve six logical units: one is served
 * by both, one comes and goes. Each chain is answered once, within its room;
 * responses, residuals and sense data are judged. Where storage is not delayed
 * and memory not disturbed, an array follows what commands do to each image:
 * what is read and what is on the disk must be equal to it. With delays,
 * commands wait for each other and are aborted; then the images that nobody may
 * write stay as they were.
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
import type { ScsiDevice } from "../../../backends/scsi/device.ts";
import { ScsiLunError } from "../../../backends/scsi/error.ts";
import type { GuestMemory } from "../../../virtqueue/memory.ts";
import type { VirtQueue } from "../../../virtqueue/queue.ts";
import {
  follow,
  judgeAnswer,
  lunOf,
  type MediumModel,
  REQUEST,
  RESPONSE,
  type Taken,
} from "./model.ts";
import {
  Delays,
  HOSTS,
  type Images,
  makeHost,
  SPARE,
  type UnitFacts,
} from "./units.ts";

/** Regions of memory: address and length. */
export const REGIONS = [
  [0x10_0000, 0x8000],
  [0x10_8000, 0x1000],
  [0x20_0000, 0x3000],
  [2 ** 52, 0x1000],
] as const;
/** No memory is here. */
export const HOLE = 0x18_0000;
const MOST_READS = 1_000_000;
const BUDGET = 8;
const MOST_TURNS = 200;
/** Functions that abort commands. */
const TaskManagement = {
  ABORT_TASK_SET: 1,
  CLEAR_TASK_SET: 3,
  I_T_NEXUS_RESET: 4,
  LOGICAL_UNIT_RESET: 5,
} as const;
const READ_ONLY = ["c", "d", "f"], WRITABLE = ["a", "b", "e"];

/** A SCSI host with what is known of it. */
export interface Side {
  readonly device: ScsiDevice;
  readonly number: number;
  /** Number of its first ring. */
  readonly first: number;
  readonly units: UnitFacts[];
  senseSize: number;
  cdbSize: number;
}

/** When a word changes, and how. */
export interface Race {
  readonly moment: number;
  readonly how: number;
}

/** How hosts are made. */
export interface HostsOptions {
  readonly memory: FuzzMemory;
  readonly shared: GuestMemory;
  readonly images: Images;
  readonly driver: DeviceDriver;
  readonly observer: Observer;
  /** Storage waits until it is told to do what it has to. */
  readonly delayed: boolean;
  readonly features: bigint;
  readonly eventIdx: boolean;
}

/** SCSI hosts and their disks. */
export class Hosts implements QueueWatch {
  readonly sides: Side[] = [];
  /** Names of images that were put into other logical units. */
  readonly media = new Map<UnitFacts, string>();
  readonly #options: HostsOptions;
  readonly #memory: FuzzMemory;
  readonly #images: Images;
  readonly #observer: Observer;
  readonly #driver: DeviceDriver;
  readonly #delays = new Delays();
  readonly #delayed: boolean;
  readonly #owners = new Map<VirtQueue, Side>();
  readonly #parked = new Set<VirtQueue>();
  readonly #taken = new Map<ModelChain, Taken>();
  /** The commands that task management functions are for. */
  readonly #aborted = new Map<ModelChain, readonly ModelChain[]>();
  readonly #pending: Promise<void>[] = [];
  readonly #failures: unknown[] = [];
  /** Memory changed while the device read it. */
  #raced = false;

  constructor(options: HostsOptions) {
    this.#options = options;
    this.#memory = options.memory;
    this.#images = options.images;
    this.#observer = options.observer;
    this.#driver = options.driver;
    this.#delayed = options.delayed;
    try {
      for (let i = 0; i < HOSTS.length; i++) this.#plug(i);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #plug(number: number): void {
    const { shared, eventIdx } = this.#options;
    const device = makeHost(number, this.#images, {
      memory: shared,
      slotsPerQueue: RING_SIZE,
      worker: 0,
      ring: () => null,
      configChanged() {},
      resume: (queue) => void this.#parked.delete(queue),
      watch() {},
      log() {},
    });
    const side = {
      device,
      number,
      first: this.#driver.queues.length,
      units: [...HOSTS[number]],
      senseSize: 96,
      cdbSize: 32,
    };
    this.sides.push(side);
    if (this.#delayed) this.#delays.insert(device);
    device.negotiate(this.#options.features);
    device.activate();
    for (let i = 0; i < device.queueCount; i++) {
      const { maxSegments } = device;
      const queue = this.#driver.start(i, { maxSegments, eventIdx }, this);
      this.#owners.set(queue, side);
      device.start(queue);
    }
    // One that was just plugged in has much to say before it works.
    for (const [, , nexus] of device.bus.entries()) nexus.clearAttention();
  }

  taken(queue: WatchedQueue, chain: ModelChain): void {
    const side = this.#owners.get(queue)!;
    if (queue.index === 0) this.#manages(side, chain);
    if (queue.index !== 2) return;
    const { senseSize, cdbSize, units } = side;
    const readable = totalOf(chain.readable),
      writable = totalOf(chain.writable);
    const inLength = writable - RESPONSE - senseSize;
    const outLength = readable - REQUEST - cdbSize;
    const bytes = readPart(this.#memory, chain.readable, 0, 0x4_0000);
    const field = bytes.slice(0, 8);
    const cdb = new Uint8Array(32);
    cdb.set(bytes.subarray(REQUEST, REQUEST + Math.min(32, cdbSize)));
    const most = side.device.maxSegments;
    const pieces = piecesOf(this.#memory, [
      ...chain.readable,
      ...chain.writable,
    ]);
    this.#taken.set(chain, {
      side: side.number,
      raced: this.#raced,
      field,
      cdb,
      out: bytes.slice(REQUEST + cdbSize),
      inLength,
      outLength,
      senseSize,
      malformed: inLength < 0 || outLength < 0 ||
        inLength > 0 && outLength > 0 ||
        chain.readable.length + chain.writable.length > most ||
        pieces.length > most + 4,
      known: field[0] === 0xc1 && field[1] === 1 ||
        field[0] === 1 && units.some(({ target }) => target === field[1]),
    });
  }

  /** Notes which commands a task management function is for. */
  #manages({ number }: Side, chain: ModelChain): void {
    const bytes = readPart(this.#memory, chain.readable, 0, 24);
    if (bytes.length < 24) return;
    const view = new DataView(bytes.buffer);
    if (view.getUint32(0, true) !== 0) return;
    const aborted: ModelChain[] = [];
    const managed = { field: bytes.subarray(8, 16), side: number };
    const subtype = view.getUint32(4, true);
    for (const [one, taken] of this.#taken) {
      if (covers(subtype, managed, taken)) aborted.push(one);
    }
    this.#aborted.set(chain, aborted);
  }

  completed(queue: WatchedQueue, chain: ModelChain, written: number): number {
    if (queue.index === 1) {
      const right = totalOf(chain.writable) < 16 ? 0 : 16;
      expect(written === right, () => `an event of ${written} bytes`);
      return written;
    }
    if (queue.index === 0) {
      expect(
        [0, 1, 5].includes(written),
        () => `an answer of ${written} bytes`,
      );
      return written;
    }
    // Data may have come before the command was aborted.
    return this.#delayed ? totalOf(chain.writable) : written;
  }

  adopted(queue: WatchedQueue, chain: ModelChain, written: number): void {
    if (queue.index === 2) return this.#answered(queue, chain, written);
    if (!this.#disjoint(chain)) return;
    const bytes = readPart(this.#memory, chain.writable, 0, written);
    if (queue.index === 0) {
      const answer = bytes[written - 1] ?? 0;
      const aborted = this.#aborted.get(chain) ?? [];
      this.#aborted.delete(chain);
      expect(
        written !== 1 || answer !== 0 ||
          !aborted.some((one) => this.#taken.has(one)),
        () => "commands go on that are said to be aborted",
      );
      expect(
        [0, 3, 10, 11, 12].includes(answer),
        () => `response ${answer} to task management`,
      );
      this.#observer.reached(1 | answer << 2 | written << 6);
      return this.#say(`control: ${bytes}`);
    }
    if (written === 0) return;
    const event = new DataView(bytes.buffer).getUint32(0, true);
    expect(event % 2 ** 31 <= 3, () => `event ${event}`);
    this.#observer.reached(2 | (event & 3) << 2);
    this.#say(`event: ${bytes}`);
  }

  #answered(queue: WatchedQueue, chain: ModelChain, written: number): void {
    const taken = this.#taken.get(chain)!;
    this.#taken.delete(chain);
    const { senseSize, inLength, malformed } = taken;
    const size = RESPONSE + senseSize;
    const truncated = chain.readable.length + chain.writable.length > 64;
    if (malformed && (inLength < 0 || truncated && written === 0)) {
      return expect(written === 0, () => `${written} bytes into no room`);
    }
    if (!this.#disjoint(chain)) return this.#resync();
    const head = readPart(this.#memory, chain.writable, 0, size);
    if (taken.raced) return this.#resync();
    const answer = judgeAnswer(taken, head, written);
    const { response, status, transferred } = answer;
    const [opcode] = taken.cdb;
    this.#say(
      `response ${response}, status ${status}, ${transferred} bytes, ` +
        `sense ${head.subarray(12, 12 + Math.min(18, head[0]))}`,
    );
    const asc = status === 2 && senseSize > 13 ? head[12 + 12] : 0;
    this.#observer.reached(
      3 | response << 2 | status << 6 | opcode << 14 | asc << 22,
    );
    if (response !== 0 || status !== 0 || this.#delayed) return;
    const side = this.#owners.get(queue)!;
    const data = inLength > 0
      ? readPart(this.#memory, chain.writable, size, transferred)
      : new Uint8Array(0);
    follow(taken, transferred, data, this.mediumOf(side, taken.field));
  }

  /** Nobody knows what a command was: whatever it wrote is right. */
  #resync(): void {
    for (const name of WRITABLE) {
      this.#images.models.get(name)!.set(this.#images.read(name));
    }
  }

  /** The medium of a LUN field; `null`: none. */
  mediumOf(
    { units }: Pick<Side, "units">,
    field: Uint8Array,
  ): MediumModel | null {
    const unit = units.find(({ target, lun }) =>
      field[0] === 1 && target === field[1] && lun === lunOf(field)
    );
    if (unit === undefined) return null;
    const name = this.media.get(unit) ?? unit.image;
    const image = this.#images.models.get(name);
    const { blockSize } = unit;
    const writable = WRITABLE.includes(name);
    return image === undefined ? null : { blockSize, image, writable };
  }

  /** Whether what the device writes overlaps neither itself nor rings. */
  #disjoint({ writable }: ModelChain): boolean {
    const [rings, size] = REGIONS[2];
    const places = [...writable, { address: BigInt(rings), length: size }];
    return places.every(({ address, length }, i) =>
      places.every((other, j) =>
        i >= j || address + BigInt(length) <= other.address ||
        other.address + BigInt(other.length) <= address
      )
    );
  }

  /** Does what may be refused; waits for its end unless storage is delayed. */
  async attempt(action: () => unknown): Promise<void> {
    const done = (async () => {
      try {
        await action();
      } catch (error) {
        if (error instanceof ScsiLunError) this.#say(error.message);
        else this.#failures.push(error);
      }
    })();
    if (this.#delayed) this.#pending.push(done);
    else await done;
    this.#complain();
  }

  #complain(): void {
    const [failure] = this.#failures;
    if (failure !== undefined) throw failure;
  }

  /** Storage does what it is told to. */
  release(count: number, newest: boolean): void {
    let done = 0;
    while (done < count && this.#delays.release(newest)) done++;
    this.#say(`storage did ${done} operations`);
  }

  /** The rings of a host stop and go on; perhaps for another driver. */
  restart(side: Side, reset: boolean): void {
    const { device } = side;
    const queues = this.#driver.queues
      .filter((queue) => this.#owners.get(queue) === side);
    for (const queue of queues) device.quiesce(queue);
    this.release(Infinity, false);
    while (device.poll() > 0);
    for (const queue of queues) {
      const { index, inFlight } = queue;
      expect(inFlight === 0, () => `queue ${index} is not drained`);
      this.#parked.delete(queue);
    }
    device.deactivate();
    if (reset) {
      device.reset();
      device.negotiate(this.#options.features);
      side.senseSize = 96;
      side.cdbSize = 32;
    }
    device.activate();
    for (const queue of queues) device.start(queue);
    this.#say(`host ${side.number} restarted, reset: ${reset}`);
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
        const now = queue.index === 2 ? racing : null;
        if (this.#serve(queue, now)) this.#parked.delete(queue);
        if (now !== null) racing = null;
      }
      const steps = this.sides.map(({ device }) => device.poll());
      if (Math.max(...steps) > 0) progress = true;
      if (!progress) break;
      expect(i < MOST_TURNS, () => `no end after ${i} turns`);
    }
    this.#driver.settle("a turn");
  }

  #serve(queue: WatchedQueue, race: Race | null): boolean {
    const { device } = this.#owners.get(queue)!;
    const serve = (): boolean => device.serve(queue, BUDGET);
    const options = { limit: MOST_READS };
    if (race === null) return watchReads(options, serve);
    const memory = this.#memory;
    const [rings, size] = REGIONS[2];
    this.#raced = true;
    const result = watchReads({
      ...options,
      moment: race.moment % 64,
      back: race.how % 16,
      change(place) {
        const address = memory.addressOf(place);
        if (address === null) return;
        // Rings have a target of their own.
        if (address >= rings && address < rings + size) return;
        const word = memory.wordAt(address);
        memory.driverPut(address, 4, (word ^ 1 << (race.how >> 3)) >>> 0);
      },
    }, serve);
    this.#raced = false;
    this.#resync();
    return result;
  }

  /** Images are what they should be. */
  #compare(): void {
    const names = this.#delayed ? READ_ONLY : [...READ_ONLY, ...WRITABLE];
    for (const name of names) {
      const at = this.#images.difference(
        name,
        this.#images.models.get(name)!,
      );
      expect(at < 0, () => `byte ${at} of image ${name} is another`);
    }
  }

  /** Lets everything come to its end, and stops. */
  async finish(): Promise<void> {
    for (let i = 0;; i++) {
      this.release(Infinity, false);
      this.turn(null);
      const busy = this.#driver.queues.some((queue) =>
        queue.index !== 1 && (queue.ready || queue.inFlight > 0)
      );
      if (!busy && this.#delays.idle) break;
      expect(i < MOST_TURNS, () => `no end after ${i} turns`);
    }
    await Promise.all(this.#pending);
    this.#complain();
    for (const queue of this.#driver.queues) {
      this.#owners.get(queue)!.device.quiesce(queue);
      const { index, inFlight } = queue;
      expect(inFlight === 0, () => `queue ${index} is not drained`);
    }
    this.#driver.settle("the end");
    this.#compare();
  }

  /** Gives everything back. */
  close(): void {
    for (const { device } of this.sides) device.close();
  }

  #say(line: string): void {
    this.#observer.say?.(line);
  }
}

/** Whether a task management function aborts a command that was there. */
function covers(
  subtype: number,
  managed: Pick<Taken, "side" | "field">,
  { side, field, malformed, raced }: Taken,
): boolean {
  const [kind, target] = managed.field;
  if (malformed || raced || kind !== 1 || field[0] !== 1) return false;
  // One that comes and goes is not always the same.
  if (field[1] !== target || target === SPARE.target) return false;
  const lun = lunOf(field) === lunOf(managed.field);
  const own = side === managed.side;
  switch (subtype) {
    case TaskManagement.ABORT_TASK_SET:
      return own && lun;
    case TaskManagement.I_T_NEXUS_RESET:
      return own;
    case TaskManagement.CLEAR_TASK_SET:
    case TaskManagement.LOGICAL_UNIT_RESET:
      // What has the same numbers is the same, where both hosts have it.
      return lun;
    default:
      return false;
  }
}
