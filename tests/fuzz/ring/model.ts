/**
 * What a device has to do with a split virtqueue: a model, from the
 * specification (virtio 1.4, section 2.7) and the contract of
 * `virtqueue/queue.ts`, without regard to speed.
 *
 * Theory of operation: as simple as it can be said. Descriptors are read when
 * they are walked, positions run freely, the history of entries is a list. What
 * the specification leaves to the device is decided as the contract says: a bad
 * chain is answered with length 0, a bad head is not answered, a call looks at
 * 32 bad entries at most, an index that is too far ahead ends the ring.
 *
 * @module
 */

import {
  recover,
  type Tracking,
  tracksAnswer,
  tracksPublish,
  tracksTake,
  tracksUntake,
} from "./tracking.ts";
import type { FuzzMemory } from "../memory/fuzz_memory.ts";
import type { QueueModel } from "../queue/model.ts";
import type { RingPlace } from "../queue/options.ts";

const NEXT = 1, WRITE = 2, INDIRECT = 4;
const MOST_BAD = 32;

/** Where a ring is, and what was negotiated. */
export interface ModelOptions extends RingPlace {
  readonly position: number;
  readonly eventIdx: boolean;
  readonly indirect: boolean;
  /** Most chains in flight. */
  readonly slots: number;
}

/** A buffer of a chain; none is empty. */
export interface ModelBuffer {
  readonly address: bigint;
  readonly length: number;
}

/** A chain that keeps the rules. */
export interface ModelChain {
  readonly head: number;
  readonly position: number;
  /** A predecessor had taken it. */
  readonly resubmitted: boolean;
  readonly readable: readonly ModelBuffer[];
  readonly writable: readonly ModelBuffer[];
}

/** Sum of the lengths of buffers. */
export function totalOf(buffers: readonly ModelBuffer[]): number {
  return buffers.reduce((sum, { length }) => sum + length, 0);
}

/** What is known of a chain that was given back. */
export type Parked = Pick<ModelChain, "head" | "position" | "resubmitted">;

/** All that changes while a ring runs. */
export interface ModelState {
  /** The entry to look at next. */
  position: number;
  /** The available index as far as it was read. */
  known: number;
  /** Chains with the device. */
  inFlight: ModelChain[];
  /** Chains that were taken and not given back, be they answered or not. */
  taken: ModelChain[];
  /** Chains that were given back, the next to take last. */
  parked: Parked[];
  /** What is known of requests in flight by others; `null`: nothing. */
  tracking: Tracking | null;
  /** The used index, and as the driver sees it. */
  used: number;
  published: number;
  broken: boolean;
  /** Bad entries that were looked at. */
  bad: number;
  /** Chains that were answered. */
  answered: number;
}

/** A copy that can be changed by itself. */
export function copyState(state: ModelState): ModelState {
  return {
    ...state,
    inFlight: [...state.inFlight],
    taken: [...state.taken],
    parked: [...state.parked],
  };
}

/** The device side of a split virtqueue. */
export class RingModel implements QueueModel<ModelChain> {
  readonly options: ModelOptions;
  readonly #memory: FuzzMemory;
  #state: ModelState;

  /**
   * Starts a ring: notifications are enabled.
   *
   * @param tracked what a predecessor left of requests in flight
   */
  constructor(
    memory: FuzzMemory,
    options: ModelOptions,
    tracked: Tracking | null = null,
  ) {
    this.#memory = memory;
    this.options = options;
    const used = memory.read(options.usedRing + 2n, 2);
    const found = tracked && recover(tracked, used, options.size);
    const again = found?.heads ?? [];
    // What a predecessor had taken lies behind what it had answered.
    const position = again.length > 0
      ? (used + again.length) % 65536
      : options.position;
    this.#state = {
      position,
      known: position,
      inFlight: [],
      taken: [],
      parked: again.toReversed().map((head) => ({
        head,
        position: used,
        resubmitted: true,
      })),
      tracking: found?.tracking ?? null,
      used,
      published: used,
      broken: false,
      bad: 0,
      answered: 0,
    };
    memory.write(options.usedRing, 2, 0);
    this.enableNotification();
  }

  /** The state as it is, for reading. */
  get state(): Readonly<ModelState> {
    return this.#state;
  }

  /** A copy of the state. */
  save(): ModelState {
    return copyState(this.#state);
  }

  /** Goes back to a copy, which is taken over. */
  restore(state: ModelState): void {
    this.#state = state;
  }

  /** Where a restarted ring goes on. */
  get position(): number {
    return this.#state.parked.at(-1)?.position ?? this.#state.position;
  }

  /** The entry to look at next. */
  get next(): number {
    return this.#state.position;
  }

  /** `available` of the queue. */
  available(): boolean {
    const state = this.#state;
    if (state.broken) return false;
    return state.parked.length > 0 || state.position !== state.known ||
      this.#look();
  }

  /** `ready` of the queue. */
  ready(): boolean {
    return this.#room() && this.available();
  }

  /** The next chain; bad ones are answered or passed over. */
  take(): ModelChain | null {
    const state = this.#state;
    if (state.broken || !this.#room()) return null;
    for (let i = 0; i < MOST_BAD; i++) {
      let head: number, position: number, resubmitted = false;
      const parked = state.parked.pop();
      if (parked !== undefined) {
        ({ head, position, resubmitted } = parked);
      } else {
        if (state.position === state.known && !this.#look()) return null;
        position = state.position;
        const { availableRing, size } = this.options;
        head = this.#memory.read(
          availableRing + 4n + 2n * BigInt(position % size),
          2,
        );
        state.position = (position + 1) % 65536;
      }
      const flying = state.inFlight.some((chain) => chain.head === head);
      if (head >= this.options.size || flying) {
        state.bad++;
        continue;
      }
      const buffers = this.#walk(head);
      if (buffers === null) {
        state.bad++;
        this.#answer(head, 0);
        continue;
      }
      const chain = { head, position, resubmitted, ...buffers };
      if (state.tracking !== null && !resubmitted) {
        state.tracking = tracksTake(state.tracking, head);
      }
      state.inFlight.push(chain);
      state.taken.push(chain);
      return chain;
    }
    return null;
  }

  /** The device answers a chain. */
  complete(chain: ModelChain, written: number): void {
    this.#land(chain);
    this.#answer(chain.head, written);
  }

  /** Whether a chain is the one that was taken last. */
  canUntake(chain: ModelChain): boolean {
    return this.#state.taken.at(-1) === chain;
  }

  /** The device gives back the chain that was taken last. */
  untake(chain: ModelChain): void {
    this.#land(chain);
    this.#state.taken.pop();
    this.#state.parked.push(chain);
    const { tracking } = this.#state;
    if (tracking !== null && !chain.resubmitted) {
      this.#state.tracking = tracksUntake(tracking, chain.head);
    }
  }

  /** Shows what was answered; whether the driver is to be notified. */
  publish(): boolean {
    const state = this.#state;
    const { size, eventIdx, availableRing, usedRing } = this.options;
    if (state.broken || state.used === state.published) return false;
    this.#memory.write(usedRing + 2n, 2, state.used);
    const first = state.published;
    state.published = state.used;
    if (state.tracking !== null) {
      state.tracking = tracksPublish(state.tracking, state.used);
    }
    if (!eventIdx) return this.#memory.read(availableRing, 2) % 2 === 0;
    const event = this.#memory.read(availableRing + 4n + 2n * BigInt(size), 2);
    // Was the element at `event` among those that were shown?
    for (let i = first; i !== state.used; i = (i + 1) % 65536) {
      if (i === event) return true;
    }
    return false;
  }

  /** Asks for notifications; true when there is something to do already. */
  enableNotification(): boolean {
    const state = this.#state;
    const { size, eventIdx, usedRing } = this.options;
    if (state.broken) return false;
    if (eventIdx) {
      const event = usedRing + 4n + 8n * BigInt(size);
      this.#memory.write(event, 2, state.position);
    } else {
      this.#memory.write(usedRing, 2, 0);
    }
    if (!this.#room()) return false;
    return this.#look() || state.parked.length > 0;
  }

  /** Asks for none. */
  disableNotification(): void {
    if (this.options.eventIdx || this.#state.broken) return;
    this.#memory.write(this.options.usedRing, 2, 1);
  }

  #room(): boolean {
    return this.#state.inFlight.length < this.options.slots;
  }

  /** Reads the available index; whether there is an entry to look at. */
  #look(): boolean {
    const state = this.#state;
    if (state.broken) return false;
    const index = this.#memory.read(this.options.availableRing + 2n, 2);
    const ahead = (index - state.position + 65536) % 65536;
    if (ahead > this.options.size) {
      state.broken = true;
      state.known = state.position;
      return false;
    }
    state.known = index;
    return ahead > 0;
  }

  #land(chain: ModelChain): void {
    const { inFlight } = this.#state;
    inFlight.splice(inFlight.indexOf(chain), 1);
  }

  #answer(head: number, written: number): void {
    const { size, usedRing } = this.options;
    const at = usedRing + 4n + 8n * BigInt(this.#state.used % size);
    this.#memory.write(at, 4, head);
    this.#memory.write(at + 4n, 4, written);
    this.#state.used = (this.#state.used + 1) % 65536;
    this.#state.answered++;
    const { tracking } = this.#state;
    if (tracking !== null) {
      this.#state.tracking = tracksAnswer(tracking, head, size);
    }
  }

  /** The buffers of a chain, `null` where it breaks a rule. */
  #walk(
    head: number,
  ): { readable: ModelBuffer[]; writable: ModelBuffer[] } | null {
    const memory = this.#memory;
    const readable: ModelBuffer[] = [], writable: ModelBuffer[] = [];
    let table = this.options.descriptorTable;
    let entries = this.options.size;
    let inTable = false;
    let index = head;
    let total = 0;
    let writing = false;
    for (let walked = 0; walked < entries; walked++) {
      const at = table + 16n * BigInt(index);
      const low = memory.read(at, 4), high = memory.read(at + 4n, 4);
      const address = BigInt(high) << 32n | BigInt(low);
      const length = memory.read(at + 8n, 4);
      const word = memory.read(at + 12n, 4);
      const flags = word % 65536, next = Math.floor(word / 65536);
      if (flags & INDIRECT) {
        if (!this.options.indirect || inTable || flags & NEXT) return null;
        if (length === 0 || length % 16 !== 0 || length > 16 * 32768) {
          return null;
        }
        if (!memory.holds(address, length)) return null;
        table = address;
        entries = length / 16;
        inTable = true;
        index = 0;
        walked = -1;
        continue;
      }
      if (flags & WRITE) writing = true;
      else if (writing) return null;
      if (length > 0) {
        total += length;
        if (total > 0xffff_ffff || !memory.holds(address, length)) return null;
        (writing ? writable : readable).push({ address, length });
      }
      if (!(flags & NEXT)) return { readable, writable };
      if (next >= entries) return null;
      index = next;
    }
    return null;
  }
}
