/**
 * Logical units that several SCSI hosts of one process serve.
 *
 * Theory of operation. All hosts of a process that share logical units live
 * in one Worker, so this module's table is theirs: an image is known by what the
 * file system knows it by, and whoever serves the same image gets the same
 * logical unit, with its task set and reservations. The lock that keeps other
 * processes away belongs to the logical unit: it is taken with the first host
 * that is active and given up with the last one.
 *
 * @module
 */

import { realPath } from "../../sys/small_file.ts";
import { DataFile } from "../../sys/file.ts";
import { ImageLock } from "../storage/lock.ts";
import type { Storage } from "../storage/storage.ts";
import { ScsiLunError } from "./error.ts";
import type { ResolvedLun } from "./options.ts";
import { ReservationFile } from "./target/aptpl.ts";
import { UNIT_CDROM, UNIT_DISK } from "./target/command.ts";
import { hash64, hex, unhex } from "./target/names.ts";
import { LogicalUnit, type UnitOptions } from "./target/unit.ts";

const known = new Map<string, SharedUnit>();

/** Where an initiator finds a logical unit. */
export interface UnitPlace {
  /** Name of the initiator. */
  readonly initiator: string;
  readonly target: number;
  readonly lun: number;
}

/** A SCSI host that serves a logical unit. */
export interface UnitUser {
  /** Where. */
  readonly place: UnitPlace;
  /**
   * Opens an image as this host serves them; `null` without a path.
   *
   * @throws {StorageError} when it cannot be served
   */
  open(path: string): Storage | null;
  /** Takes a storage in the place of the one that is there, and tells its driver. */
  replace(path: string, storage: Storage | null): void;
}

/** A logical unit, and who uses it. */
export class SharedUnit {
  /** The logical unit. */
  readonly unit: LogicalUnit;
  /** SCSI hosts that serve it. */
  readonly users: Set<UnitUser> = new Set();
  #changing = false;
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
   * @param user the host that is going to serve it
   * @throws {ScsiLunError} when the one that is there is of another kind, or its
   * medium is being changed
   */
  static of(
    options: ResolvedLun,
    storage: Storage | null,
    user: UnitUser,
  ): SharedUnit {
    const { path, readOnly, share } = options;
    const file = path === "" ? null : DataFile.open(path, { readOnly });
    try {
      const key = file === null ? "" : keyOf(file);
      const there = known.get(key);
      if (there !== undefined) {
        checkSame(there.unit.options, options, storage!);
        there.#refuseChange();
        file?.close();
        there.users.add(user);
        return there;
      }
      const unit = new LogicalUnit(describe(options, storage));
      unit.describeMedium(storage);
      const shared = new SharedUnit(unit, key, file, share);
      shared.users.add(user);
      if (key !== "") known.set(key, shared);
      return shared;
    } catch (error) {
      file?.close();
      throw error;
    }
  }

  /** Locks the image, for one more host. */
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

  /** Gives the lock up, for one host. */
  release(): void {
    if (--this.#holders === 0) this.#lock?.release();
  }

  /**
   * Puts another image, or none, in the place of the one that is there, for all
   * who serve it; resolves when what they had in flight has ended.
   *
   * @throws {StorageError} when one of them cannot serve it: nothing changed
   * @throws {ScsiLunError} when another logical unit serves it, or it has
   * blocks of another size, or another change is under way: nothing changed
   */
  async changeMedium(options: ResolvedLun): Promise<void> {
    const { path } = options;
    const { unit } = this;
    this.#refuseChange();
    const opened = new Map<UnitUser, Storage | null>();
    this.#changing = true;
    try {
      for (const user of this.users) {
        const storage = user.open(path);
        opened.set(user, storage);
        if (storage !== null) checkBlockSize(path, storage, unit);
      }
      // From now on there is no medium, and what is there ends.
      unit.loaded = false;
      await unit.tasks.allSettled();
      this.#takeFile(options);
    } catch (error) {
      for (const storage of opened.values()) storage?.close();
      const [{ storage = null } = {}] = unit.nexuses;
      unit.describeMedium(storage);
      throw error;
    } finally {
      this.#changing = false;
    }
    const [described = null] = opened.values();
    unit.describeMedium(described);
    unit.ejected = false;
    unit.stopped = false;
    unit.loads++;
    for (const [user, storage] of opened) {
      if (this.users.has(user)) user.replace(path, storage);
      // It left meanwhile.
      else storage?.close();
    }
  }

  /** One host less uses it; the last one closes it. */
  leave(user: UnitUser): void {
    this.users.delete(user);
    if (this.users.size === 0) this.#forget();
  }

  #refuseChange(): void {
    if (!this.#changing) return;
    throw new ScsiLunError(
      "busy",
      "Cannot do that now: the medium of this logical unit is being changed",
    );
  }

  /** Takes an image over: its identity and its lock. */
  #takeFile({ path, readOnly, share }: ResolvedLun): void {
    const file = path === "" ? null : DataFile.open(path, { readOnly });
    const key = file === null ? "" : keyOf(file);
    try {
      if (key !== "" && (known.get(key) ?? this) !== this) {
        throw new ScsiLunError(
          "exists",
          `Cannot change to "${path}": another logical unit serves it`,
        );
      }
      if (key !== "" && key === this.#key) return file?.close();
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

function checkBlockSize(
  path: string,
  { blockSize }: Storage,
  unit: LogicalUnit,
): void {
  if (blockSize === unit.blockSize) return;
  throw new ScsiLunError(
    "differs",
    `Cannot change to "${path}": its blocks have ${blockSize} bytes, ` +
      `not ${unit.blockSize}`,
  );
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
  throw new ScsiLunError(
    "differs",
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
    thin: !options.readOnly && (options.thin ?? storage?.canUnmap ?? false),
    removable: options.removable,
    readOnly: options.readOnly,
    // Not of media that come and go: they are beside the image.
    store: path === "" || options.readOnly || options.removable
      ? null
      : new ReservationFile(`${path}.reservations`),
  };
}
