/**
 * What an initiator sees: targets, and their logical units.
 *
 * Theory of operation. A bus belongs to one initiator. It resolves a target and
 * a logical unit number to a {@linkcode Nexus}: of a logical unit, of none (each
 * target answers for numbers where there is nothing), or of the REPORT LUNS
 * well-known logical unit.
 *
 * @module
 */

import { UNIT_ABSENT, UNIT_WELL_KNOWN } from "./command.ts";
import { Asc } from "./constants.ts";
import { type Initiator, Nexus } from "./nexus.ts";
import { LogicalUnit } from "./unit.ts";

/** Largest target number. */
export const MAX_TARGET = 255;
/** Largest logical unit number. */
export const MAX_LUN = 16383;
/** Logical unit numbers that the peripheral device addressing method reaches. */
const PERIPHERAL_LUNS = 256;
/** Flat space addressing method. */
const FLAT = 0x40;

/**
 * Encodes a logical unit number in eight bytes: peripheral device addressing
 * below 256, flat space addressing above. Source: SAM-6.
 */
export function encodeLun(lun: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(8);
  bytes[0] = lun < PERIPHERAL_LUNS ? 0 : FLAT | lun >> 8;
  bytes[1] = lun;
  return bytes;
}

/**
 * Decodes the first level of a logical unit number.
 *
 * @param high its first byte
 * @param low its second byte
 * @returns the number, or -1 for other addressing methods
 */
export function decodeLun(high: number, low: number): number {
  if (high === 0) return low;
  return (high & 0xc0) === FLAT ? (high & 0x3f) << 8 | low : -1;
}

/** A target device. */
export class Target {
  /** Its number. */
  readonly number: number;
  /** Its logical units, by number. */
  readonly luns: Map<number, Nexus> = new Map();
  /** Stands for the numbers where there is no logical unit. */
  readonly absent: Nexus;

  /** Makes a target without logical units. */
  constructor(number: number, initiator: Initiator) {
    this.number = number;
    this.absent = new Nexus(
      initiator,
      LogicalUnit.without(UNIT_ABSENT),
      -1,
      this.inventory,
    );
  }

  /** Numbers of its logical units, encoded, in ascending order. */
  readonly inventory = (): Uint8Array<ArrayBuffer>[] =>
    [...this.luns.keys()].sort((a, b) => a - b).map(encodeLun);
}

/** The targets of an initiator. */
export class Bus {
  /** The initiator. */
  readonly initiator: Initiator;
  /** The REPORT LUNS well-known logical unit. */
  readonly wellKnown: Nexus;
  readonly #targets: (Target | null)[] = new Array(MAX_TARGET + 1).fill(null);

  /**
   * Makes a bus without targets.
   *
   * @param inventory what REPORT LUNS of the well-known logical unit tells
   */
  constructor(
    initiator: Initiator,
    inventory: (bus: Bus) => Uint8Array<ArrayBuffer>[],
  ) {
    this.initiator = initiator;
    this.wellKnown = new Nexus(
      initiator,
      LogicalUnit.without(UNIT_WELL_KNOWN),
      0,
      () => inventory(this),
    );
  }

  /** A target, or `null` when there is none of that number. */
  target(number: number): Target | null {
    return this.#targets[number] ?? null;
  }

  /** The logical unit of a target, or what stands for none. */
  find(target: Target, lun: number): Nexus {
    return target.luns.get(lun) ?? target.absent;
  }

  /** All logical units, by target and number. */
  *entries(): Generator<[target: number, lun: number, nexus: Nexus]> {
    for (const target of this.#targets) {
      if (target === null) continue;
      for (const lun of [...target.luns.keys()].sort((a, b) => a - b)) {
        yield [target.number, lun, target.luns.get(lun)!];
      }
    }
  }

  /** Connects the initiator with a logical unit. */
  add(target: number, lun: number, unit: LogicalUnit): Nexus {
    const there = this.#targets[target] ??= new Target(target, this.initiator);
    const nexus = new Nexus(this.initiator, unit, lun, there.inventory);
    unit.attach(nexus);
    this.#changed(there, null);
    there.luns.set(lun, nexus);
    return nexus;
  }

  /** Takes a logical unit away; commands that it has go on to their end. */
  remove(target: number, lun: number): void {
    const there = this.#targets[target];
    const nexus = there?.luns.get(lun);
    if (there === null || nexus === undefined) return;
    there.luns.delete(lun);
    nexus.unit.detach(nexus);
    if (there.luns.size === 0) this.#targets[target] = null;
    this.#changed(there, nexus);
  }

  #changed(target: Target, except: Nexus | null): void {
    for (const nexus of target.luns.values()) {
      // Whoever has to look at everything anyway is not told of a part.
      const isNew = nexus.awaits(
        Asc.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED,
      );
      if (nexus !== except && !isNew) {
        nexus.raise(Asc.REPORTED_LUNS_DATA_HAS_CHANGED);
      }
    }
  }
}
