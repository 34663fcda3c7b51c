/**
 * Logical units that several host adapters of one process serve.
 *
 * Theory of operation. All adapters of a process that share logical units live
 * in one Worker, so this module's table is theirs: an image is known by what the
 * file system knows it by, and whoever serves the same image gets the same
 * logical unit, with its task set and reservations. The lock that keeps other
 * processes away belongs to the logical unit: it is taken with the first adapter
 * that is active and given up with the last one.
 *
 * @module
 */

import { realPath } from "../../sys/small_file.ts";
import { DataFile } from "../../sys/file.ts";
import { ImageLock } from "../storage/lock.ts";
import type { Storage } from "../storage/storage.ts";
import type { ResolvedLun } from "./options.ts";
import { ReservationFile } from "./target/aptpl.ts";
import { UNIT_CDROM, UNIT_DISK } from "./target/command.ts";
import { hash64, hex, unhex } from "./target/names.ts";
import { LogicalUnit, type UnitOptions } from "./target/unit.ts";

const known = new Map<string, SharedUnit>();

/** A logical unit, and who uses it. */
export class SharedUnit {
  /** The logical unit. */
  readonly unit: LogicalUnit;
  /** Host adapters that serve it. */
  users = 0;
  #key: string;
  #file: DataFile | null;
  #lock: ImageLock | null;
  #holders = 0;

  private constructor(
    unit: LogicalUnit,
    key: string,
    file: DataFile | null,
    share: boolean,
  ) {
    this.unit = unit;
    this.#key = key;
    this.#file = file;
    this.#lock = file === null ? null : new ImageLock(file, share);
  }

  /**
   * The logical unit of an image: the one that is there, or a new one.
   *
   * @param storage the image as it is going to be served, or `null`
   * @throws {Error} when the one that is there is of another kind
   */
  static of(options: ResolvedLun, storage: Storage | null): SharedUnit {
    const { path, readOnly, share } = options;
    const file = path === "" ? null : DataFile.open(path, { readOnly });
    try {
      const key = file === null ? "" : keyOf(file);
      const there = known.get(key);
      if (there !== undefined) {
        checkSame(there.unit.options, options, storage!);
        file?.close();
        there.users++;
        return there;
      }
      const unit = new LogicalUnit(describe(options, storage));
      unit.describeMedium(storage);
      const shared = new SharedUnit(unit, key, file, share);
      shared.users = 1;
      if (key !== "") known.set(key, shared);
      return shared;
    } catch (error) {
      file?.close();
      throw error;
    }
  }

  /** Locks the image, for one more adapter. */
  acquire(): void {
    this.#lock?.acquire();
    try {
      // Another server may have had the image since.
      if (this.#holders === 0) this.unit.reservations.reload();
    } catch (error) {
      if (this.#holders === 0) this.#lock?.release();
      throw error;
    }
    // Not counted when it is refused.
    this.#holders++;
  }

  /** Gives the lock up, for one adapter. */
  release(): void {
    if (--this.#holders === 0) this.#lock?.release();
  }

  /**
   * Puts another image in the place of the one that is there; for a logical
   * unit with one user.
   */
  changeMedium(options: ResolvedLun): void {
    const { path, readOnly, share } = options;
    const file = path === "" ? null : DataFile.open(path, { readOnly });
    try {
      const key = file === null ? "" : keyOf(file);
      const lock = file === null ? null : new ImageLock(file, share);
      if (this.#holders > 0) lock?.acquire();
      this.#forget();
      if (key !== "") known.set(key, this);
      [this.#key, this.#file, this.#lock] = [key, file, lock];
    } catch (error) {
      file?.close();
      throw error;
    }
  }

  /** One adapter less uses it; the last one closes it. */
  leave(): void {
    if (--this.users === 0) this.#forget();
  }

  #forget(): void {
    if (known.get(this.#key) === this) known.delete(this.#key);
    this.#lock?.release();
    this.#file?.close();
    this.#file = this.#lock = null;
  }
}

function keyOf(file: DataFile): string {
  const { dev, ino } = file.identity();
  return `${dev}:${ino}`;
}

function checkSame(
  there: UnitOptions,
  options: ResolvedLun,
  storage: Storage,
): void {
  const asked = describe(options, storage);
  const differs = (["kind", "blockSize", "readOnly"] as const)
    .find((key) => there[key] !== asked[key]);
  if (differs === undefined) return;
  throw new Error(
    `Cannot serve "${options.path}" twice with different options: ` +
      `${differs} is ${there[differs]} and ${asked[differs]}`,
  );
}

/** What a logical unit of an image says of itself. */
function describe(options: ResolvedLun, storage: Storage | null): UnitOptions {
  const { path, serial, wwn, type } = options;
  const place = `${options.target}:${options.lun}`;
  const name = serial !== ""
    ? `serial:${serial}`
    : `path:${path === "" ? place : realPath(path)}`;
  const id = wwn === "" ? hash64(name) : unhex(wwn);
  // NAA 3: locally assigned.
  if (wwn === "") id[0] = 0x30 | id[0] & 0x0f;
  return {
    kind: type === "cdrom" ? UNIT_CDROM : UNIT_DISK,
    vendor: options.vendor,
    product: options.product,
    revision: "1",
    serial: serial === "" ? hex(hash64(name)) : serial,
    wwn: id,
    blockSize: storage?.blockSize ?? options.blockSize ?? 512,
    rotational: options.rotational,
    thin: !options.readOnly && (options.thin ?? storage?.canDiscard ?? false),
    removable: options.removable,
    readOnly: options.readOnly,
    store: path === "" || options.readOnly
      ? null
      : new ReservationFile(`${path}.reservations`),
  };
}
