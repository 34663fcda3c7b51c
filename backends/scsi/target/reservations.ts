/**
 * Reservations of a logical unit: those of the RESERVE command, and persistent
 * ones.
 *
 * Theory of operation. The persistent state is a value that is replaced as a
 * whole: a service action makes the next state, it is written to the store when
 * it is to survive, and only then becomes the state. So a store that fails
 * leaves everything as it was. Initiators are known by name, since a name
 * outlives a connection; keys are texts of 16 hexadecimal digits.
 *
 * Source: SPC-5 (persistent reservations), SPC-2 (RESERVE and RELEASE).
 *
 * @module
 */

import {
  ACCESS_ANY,
  ACCESS_OWN,
  ACCESS_READ,
  type CommandSpec,
} from "./command.ts";
import type { Initiator } from "./nexus.ts";

/** Persistent reservation types. Source: SPC-5. */
export const ReservationType = {
  WRITE_EXCLUSIVE: 1,
  EXCLUSIVE_ACCESS: 3,
  WRITE_EXCLUSIVE_REGISTRANTS_ONLY: 5,
  EXCLUSIVE_ACCESS_REGISTRANTS_ONLY: 6,
  WRITE_EXCLUSIVE_ALL_REGISTRANTS: 7,
  EXCLUSIVE_ACCESS_ALL_REGISTRANTS: 8,
} as const;

/** The key that is none. */
export const NO_KEY = "0000000000000000";

/** A registered initiator. */
export interface Registration {
  /** Its name. */
  readonly initiator: string;
  /** Its key: 16 hexadecimal digits. */
  readonly key: string;
}

/** A persistent reservation. */
export interface PersistentReservation {
  /** One of {@linkcode ReservationType}. */
  readonly type: number;
  /** Name of the initiator that holds it; `null`: all that are registered do. */
  readonly holder: string | null;
}

/** All that persistent reservations are. */
export interface ReservationState {
  /** PRGENERATION. */
  readonly generation: number;
  /** The registered initiators. */
  readonly registrations: readonly Registration[];
  /** The reservation. */
  readonly reservation: PersistentReservation | null;
  /** Whether it survives the loss of power. */
  readonly persistent: boolean;
}

/** Keeps the state where it survives. */
export interface ReservationStore {
  /** What was saved, or `null`. */
  load(): ReservationState | null;
  /** Saves a state in one step, or removes what was saved; throws when it cannot. */
  save(state: ReservationState | null): void;
}

const NOTHING: ReservationState = {
  generation: 0,
  registrations: [],
  reservation: null,
  persistent: false,
};

/** Whether a number is a type of a persistent reservation. */
export function isReservationType(type: number): boolean {
  return type === 1 || type === 3 || type >= 5 && type <= 8;
}

/** Whether all registered initiators hold a reservation of this type. */
export function isAllRegistrants(type: number): boolean {
  return type >= 7;
}

/** Whether a reservation of this type lets registered initiators in. */
export function isForRegistrants(type: number): boolean {
  return type >= 5;
}

/** The reservations of a logical unit. */
export class Reservations {
  /** Whether there is any reservation: nothing is to be judged without. */
  active = false;
  readonly #store: ReservationStore | null;
  #state: ReservationState = NOTHING;
  #stored = false;
  #legacy: string | null = null;

  /**
   * Takes up what was saved.
   *
   * @throws {Error} when what was saved cannot be read
   */
  constructor(store: ReservationStore | null) {
    this.#store = store;
    this.reload();
  }

  /**
   * Takes up what was saved, perhaps by another server of the same image, which
   * had it meanwhile. What is not to survive stays as it is.
   *
   * @throws {Error} when what was saved cannot be read
   */
  reload(): void {
    const saved = this.#store?.load() ?? null;
    if (saved !== null) this.#state = saved;
    else if (this.#stored) this.#state = NOTHING;
    this.#stored = saved !== null;
    this.#note();
  }

  /** Whether the state can survive the loss of power. */
  get canPersist(): boolean {
    return this.#store !== null;
  }

  /** The persistent state. */
  get state(): ReservationState {
    return this.#state;
  }

  /** Name of the initiator with the reservation of a RESERVE command, or `null`. */
  get legacy(): string | null {
    return this.#legacy;
  }

  set legacy(initiator: string | null) {
    this.#legacy = initiator;
    this.#note();
  }

  /** The registration of an initiator. */
  registration(initiator: Initiator): Registration | undefined {
    return this.#state.registrations
      .find((registration) => registration.initiator === initiator.name);
  }

  /** Whether an initiator holds the persistent reservation. */
  holds(initiator: Initiator): boolean {
    const { reservation } = this.#state;
    if (reservation === null) return false;
    return reservation.holder === null
      ? this.registration(initiator) !== undefined
      : reservation.holder === initiator.name;
  }

  /**
   * Replaces the persistent state.
   *
   * @throws {Error} when it is to survive and cannot be saved; then nothing
   * changed
   */
  commit(state: ReservationState): void {
    const keep = state.persistent && state.registrations.length > 0;
    if (this.#store !== null && (keep || this.#stored)) {
      this.#store.save(keep ? state : null);
      this.#stored = keep;
    }
    this.#state = state;
    this.#note();
  }

  /** Whether a command of an initiator must not run. */
  conflicts(initiator: Initiator, command: CommandSpec): boolean {
    if (this.#legacy !== null) {
      return this.#legacy !== initiator.name && command.always !== true;
    }
    const { reservation } = this.#state;
    if (
      reservation === null || command.access === ACCESS_ANY ||
      command.access === ACCESS_OWN || this.holds(initiator)
    ) return false;
    const { type } = reservation;
    if (
      isForRegistrants(type) && this.registration(initiator) !== undefined
    ) return false;
    const exclusive = type === ReservationType.EXCLUSIVE_ACCESS ||
      type === ReservationType.EXCLUSIVE_ACCESS_REGISTRANTS_ONLY ||
      type === ReservationType.EXCLUSIVE_ACCESS_ALL_REGISTRANTS;
    return exclusive || command.access !== ACCESS_READ;
  }

  #note(): void {
    this.active = this.#legacy !== null || this.#state.reservation !== null;
  }
}
