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
 * const frame = new Uint8Array([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
 * table.learn(frame, 6, 3, 0);
 * assertEquals(table.lookup(frame, 6, 10), 3);
 * assertEquals(table.lookup(frame, 6, 301), -1);
 * ```
 */
export class MacTable {
  /** Addresses that gave way to others. */
  evicted = 0;
  /** Addresses that turned up behind another port. */
  moved = 0;
  readonly #mask: number;
  readonly #lifetime: number;
  /** The first 32 bits of each address. */
  readonly #high: Uint32Array<ArrayBuffer>;
  /** The last 16 bits. */
  readonly #low: Uint16Array<ArrayBuffer>;
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
    this.#high = new Uint32Array(size);
    this.#low = new Uint16Array(size);
    this.#ports = new Int16Array(size).fill(UNKNOWN_PORT);
    this.#seen = new Float64Array(size);
  }

  /**
   * Notes behind which port an address is.
   *
   * @param bytes has the address, from index `at` on
   * @param now in seconds, whole ones: small numbers cross calls unboxed
   */
  learn(bytes: Uint8Array, at: number, port: number, now: number): void {
    const high = highOf(bytes, at), low = bytes[at + 4] << 8 | bytes[at + 5];
    const first = this.#bucket(high, low);
    let chosen = first;
    for (let i = first; i < first + WAYS; i++) {
      if (
        this.#ports[i] >= 0 && this.#high[i] === high && this.#low[i] === low
      ) {
        if (this.#ports[i] !== port) {
          this.#ports[i] = port;
          this.moved++;
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
    this.#high[chosen] = high;
    this.#low[chosen] = low;
    this.#ports[chosen] = port;
    this.#seen[chosen] = now;
  }

  /** The port of an address, or {@linkcode UNKNOWN_PORT}. */
  lookup(bytes: Uint8Array, at: number, now: number): number {
    const high = highOf(bytes, at), low = bytes[at + 4] << 8 | bytes[at + 5];
    const first = this.#bucket(high, low);
    for (let i = first; i < first + WAYS; i++) {
      if (
        this.#ports[i] >= 0 && this.#high[i] === high && this.#low[i] === low
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
      const digits = this.#high[i].toString(16).padStart(8, "0") +
        this.#low[i].toString(16).padStart(4, "0");
      const mac = digits.match(/../g)!.join(":");
      found.push({ mac, port, age });
    });
    return found.sort((a, b) => a.mac < b.mac ? -1 : 1);
  }

  #bucket(high: number, low: number): number {
    let hash = Math.imul(high ^ this.#salt, 0x9e3779b1);
    hash = Math.imul(hash ^ hash >>> 15 ^ low, 0x85ebca6b);
    return ((hash ^ hash >>> 13) & this.#mask) * WAYS;
  }
}

function highOf(bytes: Uint8Array, at: number): number {
  return (bytes[at] << 24 | bytes[at + 1] << 16 | bytes[at + 2] << 8 |
    bytes[at + 3]) >>> 0;
}
