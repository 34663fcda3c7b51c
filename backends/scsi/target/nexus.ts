/**
 * Who talks to a logical unit: initiators, and the relation of one of them with
 * one logical unit.
 *
 * @module
 */

import type { IoTable } from "../../../sys/io_table.ts";
import type { Storage } from "../../storage/storage.ts";
import { hash64 } from "./names.ts";
import type { Task } from "./task.ts";
import type { LogicalUnit } from "./unit.ts";

/** Length of a TransportID in bytes. */
export const TRANSPORT_ID_SIZE = 24;
/** PROTOCOL IDENTIFIER of Serial Attached SCSI. */
const PROTOCOL_SAS = 6;

/** What happened to a medium: media events. Source: MMC-6. */
export const MediaEvent = {
  NO_CHANGE: 0,
  NEW_MEDIA: 2,
  MEDIA_REMOVAL: 3,
} as const;

/** An initiator port, known by its name. */
export class Initiator {
  /** Name, the same after a restart. */
  readonly name: string;
  /** TransportID: an SAS address that is made of the name. */
  readonly transportId: Uint8Array<ArrayBuffer>;

  /** Makes an initiator. */
  constructor(name: string) {
    this.name = name;
    this.transportId = transportIdOf(name);
  }
}

/** The TransportID of an initiator. Source: SPC-5. */
export function transportIdOf(name: string): Uint8Array<ArrayBuffer> {
  const id = new Uint8Array(TRANSPORT_ID_SIZE);
  id[0] = PROTOCOL_SAS;
  id.set(hash64(`initiator:${name}`), 4);
  // NAA 3: locally assigned.
  id[4] = 0x30 | id[4] & 0x0f;
  return id;
}

/**
 * An I_T_L nexus: an initiator's way to a logical unit, with the storage that
 * serves its commands and the unit attention conditions that it has not heard of.
 */
export class Nexus {
  /** The initiator. */
  readonly initiator: Initiator;
  /** The logical unit. */
  readonly unit: LogicalUnit;
  /** The logical unit number by which the initiator knows it. */
  readonly lun: number;
  /** All logical unit numbers that the initiator is told of, encoded. */
  readonly inventory: () => Uint8Array<ArrayBuffer>[];
  /** The medium, or `null` when there is none. */
  storage: Storage | null = null;
  /** Operands of its storage operations; `null` without a medium. */
  table: IoTable | null = null;
  /** Tells the initiator at once, where its transport can, that something changed. */
  notify: (asc: number) => void = () => {};
  /**
   * Keeps mode parameters, which changed, where they survive the process; calls
   * back when they do.
   */
  keepModes: (kept: () => void) => void = (kept) => kept();
  /**
   * Takes a command that has much to do, and has it go on after others had their
   * turn; `null`: it goes on at once.
   */
  pause: ((task: Task) => void) | null = null;
  /** Whether the initiator wants the medium to stay where it is. */
  preventsRemoval = false;
  /** A media event that the initiator has not been told of: a {@linkcode MediaEvent}. */
  mediaEvent: number = MediaEvent.NO_CHANGE;
  readonly #attentions: number[] = [];

  /** Connects an initiator with a logical unit. */
  constructor(
    initiator: Initiator,
    unit: LogicalUnit,
    lun: number,
    inventory: () => Uint8Array<ArrayBuffer>[],
  ) {
    this.initiator = initiator;
    this.unit = unit;
    this.lun = lun;
    this.inventory = inventory;
  }

  /** Number of unit attention conditions. */
  get attentionCount(): number {
    return this.#attentions.length;
  }

  /** Establishes a unit attention condition, unless it is there. */
  raise(asc: number): void {
    if (!this.awaits(asc)) this.#attentions.push(asc);
  }

  /** Whether the initiator has not heard of a unit attention condition. */
  awaits(asc: number): boolean {
    return this.#attentions.includes(asc);
  }

  /** Takes the oldest unit attention condition; 0 when there is none. */
  takeAttention(): number {
    return this.#attentions.shift() ?? 0;
  }

  /** Clears a unit attention condition, or all of them. */
  clearAttention(asc?: number): void {
    if (asc === undefined) {
      this.#attentions.length = 0;
      return;
    }
    const at = this.#attentions.indexOf(asc);
    if (at >= 0) this.#attentions.splice(at, 1);
  }
}
