/**
 * Keeps persistent reservations in a file beside the image: "activate persist
 * through power loss".
 *
 * Theory of operation. A state is written to a new file, which is made durable
 * and then takes the place of the old one; the directory is made durable last.
 * So after a crash there is the old state or the new one, never a part.
 *
 * @module
 */

import {
  readIfThere,
  removeFile,
  replaceFile,
} from "../../../sys/small_file.ts";
import { isReservationType, type ReservationState } from "./reservations.ts";
import type { ReservationStore } from "./reservations.ts";

const FORMAT = "vhostd persistent reservations";
const VERSION = 1;
const KEY = /^[0-9a-f]{16}$/;

/** Persistent reservations in a file. */
export class ReservationFile implements ReservationStore {
  /** Path of the file. */
  readonly path: string;

  /** Names the file; it need not exist. */
  constructor(path: string) {
    this.path = path;
  }

  /**
   * Reads the file.
   *
   * @throws {Error} when it is there and is no such file
   */
  load(): ReservationState | null {
    const text = readIfThere(this.path);
    if (text === null) return null;
    const state = parse(text);
    if (state === null) {
      throw new Error(
        `Cannot use "${this.path}": it does not hold persistent reservations ` +
          `of version ${VERSION}; remove it to start without any`,
      );
    }
    return state;
  }

  /** Replaces the file, or removes it. */
  save(state: ReservationState | null): void {
    if (state === null) return removeFile(this.path);
    const all = { format: FORMAT, version: VERSION, ...state };
    replaceFile(this.path, JSON.stringify(all, null, 2) + "\n");
  }
}

function parse(text: string): ReservationState | null {
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (
    typeof value !== "object" || value === null || value.format !== FORMAT ||
    value.version !== VERSION
  ) return null;
  const { generation, registrations, reservation, persistent } = value as {
    [Key in keyof ReservationState]: unknown;
  };
  if (
    !Number.isInteger(generation) || !Array.isArray(registrations) ||
    typeof persistent !== "boolean"
  ) return null;
  for (const { initiator, key } of registrations) {
    if (typeof initiator !== "string" || !KEY.test(String(key))) return null;
  }
  if (reservation !== null) {
    const { type, holder } = (reservation ?? {}) as Record<string, unknown>;
    if (!isReservationType(Number(type))) return null;
    if (holder !== null && typeof holder !== "string") return null;
  }
  return {
    generation: generation as number,
    registrations,
    reservation: reservation as ReservationState["reservation"],
    persistent,
  };
}
