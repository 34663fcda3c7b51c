/**
 * What the driver of a queue does in an input, whatever the layout of its ring:
 * keep the rules, or not.
 *
 * @module
 */

import type { Observer } from "../engine/target.ts";
import type { FuzzMemory } from "../memory/fuzz_memory.ts";
import { addressOf, type Places } from "../ring/program.ts";
import { REGIONS, TABLE } from "./layout.ts";
import type { RingPlace } from "./options.ts";

/** The driver of a queue; the numbers that it gets are bytes of the input. */
export abstract class QueueDriver {
  protected readonly memory: FuzzMemory;
  protected readonly places: Places;
  protected readonly ring: RingPlace;
  /** Prints what the driver does. */
  protected readonly say: Observer["say"];

  /** @param say where it is printed what the driver does */
  constructor(
    memory: FuzzMemory,
    places: Places,
    ring: RingPlace,
    say: Observer["say"],
  ) {
    this.memory = memory;
    this.places = places;
    this.ring = ring;
    this.say = say;
  }

  /** Writes a descriptor, whatever it says. */
  abstract descriptor(
    a: number,
    b: number,
    c: number,
    d: number,
    e: number,
    f: number,
  ): void;

  /** A chain that keeps the rules, but for where its buffers are. */
  abstract chain(a: number, b: number, c: number, d: number, e: number): void;

  /** Makes something available. */
  abstract offer(a: number, b: number, c: number, d: number, e: number): void;

  /**
   * Says that another number of descriptors is available than there is.
   *
   * @param next where the device looks next
   */
  abstract jump(next: number, a: number, b: number, d: number): void;

  /**
   * Says when it wants to be notified.
   *
   * @param used where the device answers next
   */
  abstract event(used: number, a: number, d: number): void;

  /** Writes anything anywhere. */
  poke(a: number, b: number, d: number, f: number): void {
    const address = addressOf(this.places, a, d);
    const size = [4, 2, 1, 8][b % 4];
    this.memory.driverPut(address, size, f);
    this.say?.(`0x${address.toString(16)} becomes ${f} (${size} bytes)`);
  }

  /** Where the indirect table of a chain is: across two regions, or in one. */
  protected table(c: number): bigint {
    return (c & 2) !== 0
      ? BigInt(REGIONS[1][0]) - 8n * BigInt(1 + (c >> 4))
      : TABLE + ((c & 4) !== 0 ? 24n : 0n);
  }
}
