/**
 * What a device has to do with a packed virtqueue: a model, from the specification
 * (virtio 1.4, section 2.8), vhost-user.rst ("Inflight I/O tracking") and the
 * contract of `virtqueue/queue.ts`, without regard to speed.
 *
 * Theory of operation: as simple as it can be said. A place in the ring is a lap
 * and an entry; laps count from 0, and the wrap counter is 1 in the even ones. What
 * is with the device is a list of chains. What the specification leaves to the
 * device is decided as the contract says: a chain that breaks a rule is answered
 * with length 0, one whose id says nothing is not answered, a call looks at 32 bad
 * chains at most, a chain that no driver can have ends the ring.
 *
 * @module
 */

import type { FuzzMemory } from "../memory/fuzz_memory.ts";
import type { QueueModel } from "../queue/model.ts";
import type { QueueOptions } from "../queue/options.ts";
import type { ModelBuffer, ModelChain } from "../ring/model.ts";

const NEXT = 1, WRITE = 2, INDIRECT = 4, AVAIL = 1 << 7, USED = 1 << 15;
const MOST_BAD = 32;
/** Descriptors that a look finds at most. */
const LOOK = 32;

/** A descriptor as it lies in the ring. */
export interface RawDescriptor {
  readonly address: bigint;
  readonly length: number;
  readonly flags: number;
  readonly id: number;
}

/** A chain with all that the device must remember of it. */
export interface PackedChain extends ModelChain {
  /** Its descriptors in the ring. */
  readonly raw: readonly RawDescriptor[];
}

/** What is with the device and not shown as used. */
interface Held {
  readonly id: number;
  readonly raw: readonly RawDescriptor[];
  readonly written: number | null;
  /** It is in the ring, and not shown. */
  readonly answered: boolean;
}

/** What was given back; `kept`: by a predecessor, it is not in the ring. */
interface Parked {
  readonly at: number;
  readonly raw: readonly RawDescriptor[];
  readonly kept: boolean;
}

/** All that changes while a ring runs; places count entries from lap 0 on. */
export interface PackedState {
  /** The next descriptor to look at. */
  readonly at: number;
  /** Descriptors from there on that are known to be available. */
  readonly known: number;
  /** Where the next answer goes. */
  readonly used: number;
  /** The first answer that is not shown: its flags. */
  readonly hidden: { readonly at: number; readonly flags: number } | null;
  /** Where the first answer that is not shown is. */
  readonly shown: number;
  /** In the order of taking. */
  readonly held: readonly Held[];
  /**
   * Ids that were taken by this process and not answered, in the order of taking:
   * a bad chain comes before one that was given back and taken again.
   */
  readonly flying: readonly number[];
  /** Chain objects with the device. */
  readonly inFlight: readonly PackedChain[];
  /** Chains that were taken and not given back, be they answered or not. */
  readonly taken: readonly PackedChain[];
  /** The next to take last. */
  readonly parked: readonly Parked[];
  readonly broken: boolean;
  readonly bad: number;
  readonly answered: number;
  /** The driver broke rules that tracking relies on. */
  readonly confused: boolean;
}

/** What a successor of a process that died begins with. */
export interface Legacy {
  readonly used: number;
  readonly requests: readonly (readonly RawDescriptor[])[];
}

/** The device side of a packed virtqueue. */
export class PackedModel implements QueueModel<PackedChain> {
  readonly options: QueueOptions;
  readonly #memory: FuzzMemory;
  state: PackedState;

  /**
   * Starts a ring.
   *
   * @param at where it goes on, for descriptors and for answers
   * @param legacy what a predecessor left of requests in flight
   */
  constructor(
    memory: FuzzMemory,
    options: QueueOptions,
    at: readonly [available: number, used: number],
    legacy: Legacy | null,
  ) {
    this.#memory = memory;
    this.options = options;
    const requests = legacy?.requests ?? [];
    const entries = requests.reduce((sum, raw) => sum + raw.length, 0);
    const used = legacy?.used ?? at[1];
    this.state = {
      at: legacy === null ? at[0] : used + entries,
      known: 0,
      used,
      hidden: null,
      shown: used,
      held: requests.map((raw) => ({
        id: raw.at(-1)!.id,
        raw,
        written: null,
        answered: false,
      })),
      flying: [],
      inFlight: [],
      taken: [],
      parked: requests.toReversed().map((raw) => ({
        at: used,
        raw,
        kept: true,
      })),
      broken: false,
      bad: 0,
      answered: 0,
      confused: false,
    };
    // Marks of answers that nobody saw are taken back.
    for (let place = used; place < used + entries; place++) {
      const at = this.#entry(place) + 14n;
      const flags = memory.read(at, 2);
      const right = (flags & ~(AVAIL | USED) | this.#marks(place)) & 0xffff;
      if (flags !== right) memory.write(at, 2, right);
    }
    this.enableNotification();
  }

  /** What a successor would find, were the process to die now. */
  get legacy(): Legacy {
    const { shown, held } = this.state;
    return { used: shown, requests: held.map(({ raw }) => raw) };
  }

  /** The next descriptor to take, as the queue counts. */
  get position(): number {
    return this.#count(this.state.parked.at(-1)?.at ?? this.state.at);
  }

  /** The next descriptor to look at, from lap 0. */
  get next(): number {
    return this.state.at;
  }

  /** The next descriptor to take and the next to use, from lap 0. */
  get base(): readonly [available: number, used: number] {
    const { parked, at, used } = this.state;
    const next = parked.at(-1);
    return [next === undefined ? at : next.kept ? used : next.at, used];
  }

  /**
   * Whether chains of a predecessor that were not taken again are in the ring as
   * they were, from the next descriptor to use on: else there is no base.
   */
  get stand(): boolean {
    const { broken, parked, used } = this.state;
    const left = parked.filter(({ kept }) => kept).toReversed();
    const marks = AVAIL | USED;
    return broken || left.flatMap(({ raw }) => raw).every((one, i) => {
      const there = this.#readDescriptor(this.#entry(used + i));
      return there.address === one.address && there.length === one.length &&
        (there.flags | marks) === (one.flags | marks) &&
        ((one.flags & NEXT) !== 0 || there.id === one.id);
    });
  }

  /** Chains of a predecessor that were not taken again. */
  get recovering(): number {
    return this.state.parked.filter(({ kept }) => kept).length;
  }

  /** `available` of the queue. */
  available(): boolean {
    const { broken, parked, known } = this.state;
    return !broken && (parked.length > 0 || known > 0 || this.#look());
  }

  /** `ready` of the queue. */
  ready(): boolean {
    return this.#room() && this.available();
  }

  /** The next chain; bad ones are answered or passed over. */
  take(): PackedChain | null {
    if (this.state.broken || !this.#room()) return null;
    for (let i = 0; i < MOST_BAD; i++) {
      const parked = this.state.parked.at(-1) ?? null;
      let at = this.state.at;
      if (parked !== null) {
        at = parked.at;
        this.#set({ parked: this.state.parked.slice(0, -1) });
      } else if (this.state.known === 0 && !this.#look()) return null;
      // The driver does not know of what is not shown.
      const room = this.options.size - (this.state.at - this.state.shown);
      const raw = parked?.kept
        ? parked.raw
        : this.#readChain(at, parked?.raw.length ?? room);
      if (raw === null) {
        this.#set({ broken: true, known: 0 });
        return null;
      }
      if (parked === null) {
        const known = Math.max(0, this.state.known - raw.length);
        this.#set({ at: at + raw.length, known });
      }
      const chain = this.#admit(raw, at, parked?.kept ?? false);
      if (chain !== null) return chain;
    }
    return null;
  }

  /** The device answers a chain. */
  complete(chain: PackedChain, written: number): void {
    this.#land(chain);
    this.#finish(chain.head, written);
  }

  /** Whether a chain is the one that was taken last. */
  canUntake(chain: PackedChain): boolean {
    return this.state.taken.at(-1) === chain;
  }

  /** The device gives back the chain that was taken last. */
  untake(chain: PackedChain): void {
    this.#land(chain);
    const { taken, parked, held, flying } = this.state;
    const { position: at, raw, resubmitted: kept } = chain;
    this.#set({
      flying: flying.filter((id) => id !== chain.head),
      taken: taken.slice(0, -1),
      parked: [...parked, { at: this.#place(at), raw, kept }],
      // One of a predecessor stays known to a successor.
      held: kept
        ? held
        : held.filter(({ id, answered }) => id !== chain.head || answered),
    });
  }

  /** Shows what was answered; whether the driver is to be notified. */
  publish(): boolean {
    const { hidden, broken, shown, used, held } = this.state;
    if (hidden === null || broken) return false;
    this.#memory.write(this.#entry(hidden.at) + 14n, 2, hidden.flags);
    const left = held.filter(({ answered }) => !answered);
    this.#set({ hidden: null, shown: used, held: left });
    const event = this.#memory.read(this.options.availableRing, 4);
    const flags = Math.floor(event / 65536) % 4;
    if (flags !== 2 || !this.options.eventIdx) return flags !== 1;
    const { size } = this.options;
    const entry = event % 32768, lap = event % 65536 >= 32768 ? 0 : 1;
    if (entry >= size) return true;
    // Was the descriptor that was asked for among those that were shown?
    const step = (used - shown) % (2 * size);
    for (let place = used - step; place < used; place++) {
      if (place % (2 * size) === lap * size + entry) return true;
    }
    return false;
  }

  /** Asks for notifications; true when there is something to do already. */
  enableNotification(): boolean {
    if (this.state.broken) return false;
    const { eventIdx, usedRing, size } = this.options;
    const { at } = this.state;
    const where = at % size + (this.#wrap(at) ? 32768 : 0);
    // Not 0: see RING_EVENT_ENABLE.
    this.#memory.write(usedRing, 4, eventIdx ? where + 2 * 65536 : 32768);
    const { parked, known } = this.state;
    return this.#room() && (parked.length > 0 || known > 0 || this.#look());
  }

  /** Asks for none. */
  disableNotification(): void {
    if (!this.state.broken) this.#memory.write(this.options.usedRing, 4, 65536);
  }

  /** The ring was found again: what was looked at is looked at again. */
  rebind(): void {
    this.#set({ known: 0 });
  }

  #set(changes: Partial<PackedState>): void {
    this.state = { ...this.state, ...changes };
  }

  #room(): boolean {
    return this.state.inFlight.length < this.options.slots;
  }

  #wrap(at: number): boolean {
    return Math.floor(at / this.options.size) % 2 === 0;
  }

  #marks(at: number): number {
    return this.#wrap(at) ? AVAIL : USED;
  }

  #entry(at: number): bigint {
    const { descriptorTable, size } = this.options;
    return descriptorTable + 16n * BigInt(at % size);
  }

  /** As the queue counts: over two laps. */
  #count(at: number): number {
    return at % (2 * this.options.size);
  }

  /** The place of a position that is with the device, or where it was parked. */
  #place(position: number): number {
    const laps = 2 * this.options.size;
    const back = (this.#count(this.state.at) - position + laps) % laps;
    return this.state.at - back;
  }

  /** Looks at flags; whether there is a descriptor to take. */
  #look(): boolean {
    if (this.state.broken) return false;
    const { size } = this.options;
    const { at, shown } = this.state;
    const room = size - (at - shown);
    let known = 0;
    while (known < Math.max(1, Math.min(LOOK, room))) {
      const flags = this.#memory.read(this.#entry(at + known) + 14n, 2);
      if ((flags & (AVAIL | USED)) !== this.#marks(at + known)) break;
      known++;
    }
    if (known > 0 && room === 0) {
      this.#set({ broken: true, known: 0 });
      return false;
    }
    this.#set({ known });
    return known > 0;
  }

  /** The descriptors of a chain; `null` where there can be none. */
  #readChain(from: number, most: number): RawDescriptor[] | null {
    const raw: RawDescriptor[] = [];
    for (let at = from;; at++) {
      const found = this.#readDescriptor(this.#entry(at));
      if ((found.flags & (AVAIL | USED)) !== this.#marks(at)) return null;
      raw.push(found);
      if (!(found.flags & NEXT)) return raw;
      if (raw.length === most) return null;
    }
  }

  #readDescriptor(at: bigint): RawDescriptor {
    const memory = this.#memory;
    const low = memory.read(at, 4), high = memory.read(at + 4n, 4);
    const length = memory.read(at + 8n, 4);
    const word = memory.read(at + 12n, 4);
    const address = BigInt(high) << 32n | BigInt(low);
    return {
      address,
      length,
      id: word % 65536,
      flags: Math.floor(word / 65536),
    };
  }

  /** A chain of the ring becomes one of the device, unless it is bad. */
  #admit(
    raw: readonly RawDescriptor[],
    at: number,
    kept: boolean,
  ): PackedChain | null {
    const { id } = raw.at(-1)!;
    const { held, flying, bad } = this.state;
    if (id >= this.options.size || flying.includes(id)) {
      this.#set({ bad: bad + 1 });
      return null;
    }
    this.#set({ flying: [...flying, id] });
    if (!kept) {
      const one = { id, raw, written: null, answered: false };
      const entries = [...held, one]
        .reduce((sum, { raw }) => sum + raw.length, 0);
      this.#set({
        held: [...held, one],
        confused: this.state.confused || entries > this.options.size ||
          held.some((other) => other.id === id),
      });
    }
    const buffers = this.#buffers(raw);
    if (buffers === null) {
      this.#set({ bad: bad + 1 });
      this.#finish(id, 0);
      return null;
    }
    const position = this.#count(at);
    const chain = { head: id, position, resubmitted: kept, raw, ...buffers };
    this.#set({
      inFlight: [...this.state.inFlight, chain],
      taken: [...this.state.taken, chain],
    });
    return chain;
  }

  #land(chain: PackedChain): void {
    const { inFlight } = this.state;
    this.#set({ inFlight: inFlight.filter((other) => other !== chain) });
  }

  /** An answer, now or when its turn comes. */
  #finish(id: number, written: number): void {
    const held = this.state.held.map((one) =>
      one.id === id && !one.answered ? { ...one, written } : one
    );
    this.#set({ held });
    if (!this.options.inOrder) return this.#answer(id);
    for (const next of this.state.flying) {
      const one = held.find((one) => one.id === next && !one.answered);
      if (one!.written === null) return;
      this.#answer(next);
    }
  }

  #answer(id: number): void {
    const { used, held, hidden, answered, flying } = this.state;
    const one = held.find((other) => other.id === id && !other.answered)!;
    const written = one.written!;
    const flags = (this.#wrap(used) ? AVAIL | USED : 0) |
      (written > 0 ? WRITE : 0);
    const at = this.#entry(used);
    this.#memory.write(at + 8n, 4, written);
    this.#memory.write(at + 12n, 2, id);
    if (hidden !== null) this.#memory.write(at + 14n, 2, flags);
    this.#set({
      used: used + one.raw.length,
      flying: flying.filter((other) => other !== id),
      hidden: hidden ?? { at: used, flags },
      held: held.map((other) =>
        other === one ? { ...other, answered: true } : other
      ),
      answered: answered + 1,
    });
  }

  /** The buffers of a chain, `null` where it breaks a rule. */
  #buffers(
    raw: readonly RawDescriptor[],
  ): { readable: ModelBuffer[]; writable: ModelBuffer[] } | null {
    let parts = raw;
    if (raw.some(({ flags }) => flags & INDIRECT)) {
      const [{ address, length }] = raw;
      if (!this.options.indirect || raw.length > 1) return null;
      if (length === 0 || length % 16 !== 0 || length > 16 * 32768) return null;
      if (!this.#memory.holds(address, length)) return null;
      const table: RawDescriptor[] = [];
      for (let i = 0; i < length / 16; i++) {
        table.push(this.#readDescriptor(address + 16n * BigInt(i)));
      }
      parts = table;
    }
    const readable: ModelBuffer[] = [], writable: ModelBuffer[] = [];
    let total = 0;
    for (const { address, length, flags } of parts) {
      const writing = (flags & WRITE) !== 0;
      if (!writing && writable.length > 0) return null;
      total += length;
      if (total > 0xffff_ffff) return null;
      if (length === 0) {
        // An empty one is no buffer, but tells where writing begins.
        if (writing) writable.push({ address, length });
        continue;
      }
      if (!this.#memory.holds(address, length)) return null;
      (writing ? writable : readable).push({ address, length });
    }
    return { readable, writable: writable.filter(({ length }) => length > 0) };
  }
}
