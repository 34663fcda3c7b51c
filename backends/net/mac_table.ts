/**
 * The table of a learning switch: behind which port each MAC address lives.
 *
 * Theory of operation: a hash table of fixed size in typed arrays. An address
 * lies in one of a few places that its hash names; when all of them are taken,
 * the entry that was seen longest ago gives way. So learning and looking up take
 * the same small time whatever a guest sends, nothing is allocated, and a flood
 * of made-up addresses costs others their entries and nothing more: their frames
 * are flooded until they are learnt again.
 *
 * @module
 */

/** Places that an address can lie in. */
const WAYS = 4;
/** No such address. */
export const UNKNOWN_PORT = -1;

/**
 * MAC addresses with their ports.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { MacTable } from "./mac_table.ts";
 *
 * const table = new MacTable(1024, 300);
 * table.learn(0x0300_0002, 0x0201, 3, 0);
 * assertEquals(table.entries(0)[0].mac, "02:00:00:03:01:02");
 * assertEquals(table.lookup(0x0300_0002, 0x0201, 10), 3);
 * assertEquals(table.lookup(0x0300_0002, 0x0201, 301), -1);
 * ```
 */
export class MacTable {
  /** Addresses that gave way to others. */
  evicted = 0;
  /** Addresses that turned up behind another port. */
  moved = 0;
  /**
   * Grows when an address moves, comes or goes: as long as it does not, what was
   * learnt and looked up stays so, but for ageing.
   */
  changes = 0;
  readonly #mask: number;
  readonly #lifetime: number;
  /** The first four bytes of each address, little-endian. */
  readonly #first: Int32Array<ArrayBuffer>;
  /** The last two. */
  readonly #last: Uint16Array<ArrayBuffer>;
  readonly #ports: Int16Array<ArrayBuffer>;
  readonly #seen: Float64Array<ArrayBuffer>;
  /** Makes hashes unpredictable. */
  readonly #salt: number = crypto.getRandomValues(new Uint32Array(1))[0];

  /**
   * @param size most addresses: a power of two from 4
   * @param lifetime seconds after which an address that sent nothing is
   * forgotten
   */
  constructor(size: number, lifetime: number) {
    this.#mask = size / WAYS - 1;
    this.#lifetime = lifetime;
    this.#first = new Int32Array(size);
    this.#last = new Uint16Array(size);
    this.#ports = new Int16Array(size).fill(UNKNOWN_PORT);
    this.#seen = new Float64Array(size);
  }

  /**
   * Notes behind which port an address is.
   *
   * @param first its first four bytes, as a little-endian integer of 32 bits
   * @param last its last two bytes, as one of 16 bits
   * @param now in seconds, whole ones: small numbers cross calls unboxed
   */
  learn(first: number, last: number, port: number, now: number): void {
    first |= 0;
    const bucket = this.#bucket(first, last);
    let chosen = bucket;
    for (let i = bucket; i < bucket + WAYS; i++) {
      if (
        this.#ports[i] >= 0 && this.#first[i] === first &&
        this.#last[i] === last
      ) {
        if (this.#ports[i] !== port) {
          this.#ports[i] = port;
          this.moved++;
          this.changes++;
        }
        this.#seen[i] = now;
        return;
      }
      if (this.#ports[chosen] < 0) continue;
      if (this.#ports[i] < 0 || this.#seen[i] < this.#seen[chosen]) chosen = i;
    }
    if (
      this.#ports[chosen] >= 0 && now - this.#seen[chosen] <= this.#lifetime
    ) this.evicted++;
    this.changes++;
    this.#first[chosen] = first;
    this.#last[chosen] = last;
    this.#ports[chosen] = port;
    this.#seen[chosen] = now;
  }

  /**
   * The port of an address, or {@linkcode UNKNOWN_PORT}.
   *
   * @param first its first four bytes, as a little-endian integer of 32 bits
   * @param last its last two bytes, as one of 16 bits
   */
  lookup(first: number, last: number, now: number): number {
    first |= 0;
    const bucket = this.#bucket(first, last);
    for (let i = bucket; i < bucket + WAYS; i++) {
      if (
        this.#ports[i] >= 0 && this.#first[i] === first &&
        this.#last[i] === last
      ) {
        return now - this.#seen[i] > this.#lifetime
          ? UNKNOWN_PORT
          : this.#ports[i];
      }
    }
    return UNKNOWN_PORT;
  }

  /** Forgets all addresses behind a port. */
  forget(port: number): void {
    this.changes++;
    this.#ports.forEach((value, i) => {
      if (value === port) this.#ports[i] = UNKNOWN_PORT;
    });
  }

  /** The addresses that are known, as people write them. */
  entries(now: number): { mac: string; port: number; age: number }[] {
    const found: { mac: string; port: number; age: number }[] = [];
    this.#ports.forEach((port, i) => {
      const age = now - this.#seen[i];
      if (port < 0 || age > this.#lifetime) return;
      const first = this.#first[i], last = this.#last[i];
      const mac = [0, 8, 16, 24].map((shift) => first >>> shift)
        .concat(last, last >>> 8)
        .map((byte) => (byte & 0xff).toString(16).padStart(2, "0")).join(":");
      found.push({ mac, port, age });
    });
    return found.sort((a, b) => a.mac < b.mac ? -1 : 1);
  }

  #bucket(first: number, last: number): number {
    let hash = Math.imul(first ^ this.#salt, 0x9e3779b1);
    hash = Math.imul(hash ^ hash >>> 15 ^ last, 0x85ebca6b);
    return ((hash ^ hash >>> 13) & this.#mask) * WAYS;
  }
}
