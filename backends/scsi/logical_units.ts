/**
 * The logical units of a SCSI host: opened, locked, added and taken away.
 *
 * Theory of operation. Each logical unit has a storage of this host's own:
 * all of them share one table of operands, since the slots of commands are
 * distinct. What several hosts have in common is a {@linkcode SharedUnit}.
 * A logical unit that is taken away is no longer found at once; its storage is
 * closed when the last command has ended.
 *
 * @module
 */

import type { IoTable } from "../../sys/io_table.ts";
import type { IoUring } from "../../sys/io_uring/io_uring.ts";
import { openStorage } from "../storage/open.ts";
import type { Storage, StorageCompletion } from "../storage/storage.ts";
import { ScsiLunError } from "./error.ts";
import type { ResolvedLun } from "./options.ts";
import { SharedUnit, type UnitPlace, type UnitUser } from "./shared_units.ts";
import { lunField } from "./events.ts";
import { Bus, encodeLun } from "./target/bus.ts";
import { join } from "./target/bytes.ts";
import { UNIT_CDROM } from "./target/command.ts";
import { Asc } from "./target/constants.ts";
import { Initiator, MediaEvent, type Nexus } from "./target/nexus.ts";

/** A logical unit of a SCSI host. */
export interface Lun {
  readonly target: number;
  readonly lun: number;
  readonly nexus: Nexus;
  readonly shared: SharedUnit;
  /** What the shared one knows of this host. */
  readonly user: UnitUser;
  /** What it is served with. */
  options: ResolvedLun;
  /** Whether this host holds its lock. */
  locked: boolean;
}

/** Sizes in bytes. */
export interface Resized {
  readonly capacity: number;
  readonly previousCapacity: number;
}

/** Names of initiators in use. */
const names = new Set<string>();

function chooseName(asked: string): string {
  if (asked !== "") {
    if (!names.has(asked)) return asked;
    throw new ScsiLunError(
      "exists",
      `Cannot use initiator=${asked}: another SCSI host has that name`,
    );
  }
  for (let i = 0;; i++) if (!names.has(`hba-${i}`)) return `hba-${i}`;
}

/** The logical units of a SCSI host. */
export class LogicalUnits {
  /** The targets. */
  readonly bus: Bus;
  /** The logical units. */
  readonly luns: Lun[] = [];
  /** Their storages; also those of logical units that are leaving. */
  readonly storages: Storage[] = [];
  readonly #table: IoTable;
  readonly #ring: () => IoUring | null;
  readonly #completed: StorageCompletion;
  readonly #opens: (path: string) => void;
  readonly #log: (message: string) => void;
  /** Logical units that were taken away and have commands yet. */
  readonly #leaving = new Set<Lun>();
  #active = false;

  /**
   * Makes a SCSI host without logical units.
   *
   * @param initiator name of the initiator, or empty
   * @param table operands of storage operations; it stays the caller's
   * @param completed told of each finished storage operation
   * @param opens told of each image before it is opened
   * @param log told of what management changed
   */
  constructor(
    initiator: string,
    table: IoTable,
    ring: () => IoUring | null,
    completed: StorageCompletion,
    opens: (path: string) => void,
    log: (message: string) => void,
  ) {
    const name = chooseName(initiator);
    names.add(name);
    this.bus = new Bus(new Initiator(name), () => this.#inventory());
    this.#table = table;
    this.#ring = ring;
    this.#completed = completed;
    this.#opens = opens;
    this.#log = log;
  }

  /** The logical unit of numbers. */
  find(target: number, lun: number): Lun {
    const found = this.luns
      .find((one) => one.target === target && one.lun === lun);
    if (found !== undefined) return found;
    throw new ScsiLunError(
      "missing",
      `Cannot find target ${target}, LUN ${lun}: there is no such logical unit`,
    );
  }

  /** Opens an image and adds it as a logical unit. */
  add(options: ResolvedLun): Lun {
    const { target, lun } = options;
    if (this.luns.some((one) => one.target === target && one.lun === lun)) {
      throw new ScsiLunError(
        "exists",
        `Cannot add target ${target}, LUN ${lun}: it is there already`,
      );
    }
    using undo = new DisposableStack();
    const storage = this.#open(options);
    undo.defer(() => storage?.close());
    const user: UnitUser = {
      place: { initiator: this.bus.initiator.name, target, lun },
      open: (path) => this.#open({ ...added.options, path }),
      replace: (path, storage) => this.#replace(added, path, storage),
    };
    const shared = SharedUnit.of(options, storage, user);
    undo.defer(() => shared.leave(user));
    const { unit } = shared;
    const twin = this.luns.find((one) => one.nexus.unit === unit);
    if (twin !== undefined) {
      throw new ScsiLunError(
        "exists",
        `Cannot serve "${options.path}" twice: it is target ${twin.target}, ` +
          `LUN ${twin.lun}`,
      );
    }
    const locked = this.#active;
    if (locked) {
      shared.acquire();
      undo.defer(() => shared.release());
      storage?.acquire();
    }
    undo.defer(() => this.bus.remove(target, lun));
    const nexus = this.bus.add(target, lun, unit);
    this.#connect(nexus, storage);
    const added: Lun = { target, lun, nexus, shared, user, options, locked };
    this.luns.push(added);
    undo.move();
    return added;
  }

  /** Takes a logical unit away; resolves when nothing of it is left. */
  async remove(lun: Lun): Promise<void> {
    this.luns.splice(this.luns.indexOf(lun), 1);
    this.bus.remove(lun.target, lun.lun);
    this.#leaving.add(lun);
    await lun.nexus.unit.tasks.settled(lun.nexus);
    if (this.#leaving.delete(lun)) this.#dismiss(lun);
  }

  /** Looks at the size of an image again, and tells all whom a new one concerns. */
  resize({ target, lun, nexus: { unit, storage } }: Lun): Resized {
    const before = unit.capacity;
    for (const other of unit.nexuses) other.storage?.refresh();
    unit.describeMedium(storage);
    if (unit.capacity !== before) {
      for (const nexus of unit.nexuses) {
        nexus.raise(Asc.CAPACITY_DATA_HAS_CHANGED);
        nexus.notify(Asc.CAPACITY_DATA_HAS_CHANGED);
      }
    }
    const capacity = unit.capacity * unit.blockSize;
    const previousCapacity = before * unit.blockSize;
    if (capacity !== previousCapacity) {
      this.#log(
        `target ${target}, LUN ${lun}: capacity changed from ` +
          `${previousCapacity} to ${capacity} bytes`,
      );
    }
    return { capacity, previousCapacity };
  }

  /** Looks at the sizes of all images again; what they are together. */
  resizeAll(): Resized {
    let capacity = 0, previousCapacity = 0;
    for (const lun of this.luns) {
      const resized = this.resize(lun);
      capacity += resized.capacity;
      previousCapacity += resized.previousCapacity;
    }
    return { capacity, previousCapacity };
  }

  /**
   * Puts another image, or none, into a logical unit, for all who serve it.
   *
   * @returns where they do
   */
  async changeMedium(
    { target, lun, nexus, shared, options }: Lun,
    path: string,
  ): Promise<UnitPlace[]> {
    if (!nexus.unit.options.removable) {
      throw new ScsiLunError(
        "fixed",
        `Cannot change the medium of target ${target}, LUN ${lun}: ` +
          "it is not removable",
      );
    }
    await shared.changeMedium({ ...options, path });
    this.#log(
      `target ${target}, LUN ${lun}: the medium ` +
        (path === "" ? "was taken out" : `is ${JSON.stringify(path)} now`),
    );
    return Array.from(shared.users, ({ place }) => place);
  }

  /** Locks all images. */
  activate(): void {
    this.#active = true;
    try {
      for (const lun of this.luns) {
        if (!lun.locked) lock(lun);
      }
    } catch (error) {
      this.deactivate();
      throw error;
    }
  }

  /** Gives the locks up. */
  deactivate(): void {
    this.#active = false;
    for (const lun of this.luns) unlock(lun);
    for (const lun of this.#leaving) unlock(lun);
  }

  /** The driver starts anew: what it had is lost. */
  reset(): void {
    for (const { nexus, shared } of this.luns) {
      nexus.unit.loseNexus(nexus, () => {});
      nexus.clearAttention();
      nexus.raise(Asc.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED);
      if (shared.users.size > 1) continue;
      nexus.unit.mode.reset();
      nexus.unit.ejected = false;
      nexus.unit.stopped = false;
    }
  }

  /** Facts of all logical units, for people. */
  status(): Record<string, unknown>[] {
    return this.luns.map(({ target, lun, nexus, shared, options }) => {
      const { unit } = nexus;
      const { registrations, reservation } = unit.reservations.state;
      return {
        target,
        lun,
        type: unit.kind === UNIT_CDROM ? "cdrom" : "disk",
        path: options.path,
        capacity: unit.capacity * unit.blockSize,
        blockSize: unit.blockSize,
        readOnly: unit.options.readOnly,
        serial: unit.options.serial,
        vendor: unit.options.vendor,
        product: unit.options.product,
        loaded: unit.loaded && !unit.ejected,
        cache: unit.mode.writeCache ? "writeback" : "writethrough",
        thin: unit.options.thin,
        hosts: shared.users.size,
        commands: unit.tasks.count,
        registrations: registrations.length,
        reservationType: reservation?.type ?? 0,
        storage: nexus.storage?.status() ?? null,
      };
    });
  }

  /** Closes everything. */
  close(): void {
    this.deactivate();
    for (const lun of this.luns.splice(0)) {
      this.bus.remove(lun.target, lun.lun);
      this.#dismiss(lun);
    }
    for (const lun of this.#leaving) this.#dismiss(lun);
    this.#leaving.clear();
    names.delete(this.bus.initiator.name);
  }

  /** The LUN fields of all logical units: what the well-known one reports. */
  #inventory(): Uint8Array<ArrayBuffer>[] {
    return Array.from(
      this.bus.entries(),
      ([target, lun]) =>
        join([
          lunField(target, lun).subarray(0, 2),
          encodeLun(lun).subarray(0, 6),
        ]),
    );
  }

  #open(options: ResolvedLun): Storage | null {
    if (options.path === "") return null;
    this.#opens(options.path);
    return openStorage({
      path: options.path,
      readOnly: options.readOnly,
      direct: options.direct,
      engine: options.engine,
      format: options.format,
      blockSize: options.blockSize,
      share: true,
    }, this.#ring);
  }

  #connect(nexus: Nexus, storage: Storage | null): void {
    nexus.table = this.#table;
    nexus.storage = storage;
    if (storage === null) return;
    storage.attach(this.#table);
    storage.onComplete = this.#completed;
    this.storages.push(storage);
  }

  /** The medium is another one. */
  #replace(lun: Lun, path: string, storage: Storage | null): void {
    const { nexus } = lun;
    this.#disconnect(nexus);
    this.#connect(nexus, storage);
    if (lun.locked) storage?.acquire();
    lun.options = { ...lun.options, path };
    nexus.mediaEvent = storage === null
      ? MediaEvent.MEDIA_REMOVAL
      : MediaEvent.NEW_MEDIA;
    const asc = Asc.NOT_READY_TO_READY_CHANGE_MEDIUM_MAY_HAVE_CHANGED;
    nexus.raise(asc);
    nexus.notify(asc);
  }

  #disconnect(nexus: Nexus): void {
    const { storage } = nexus;
    nexus.storage = null;
    if (storage === null) return;
    this.storages.splice(this.storages.indexOf(storage), 1);
    storage.close();
  }

  #dismiss(lun: Lun): void {
    this.#disconnect(lun.nexus);
    unlock(lun);
    lun.shared.leave(lun.user);
  }
}

/**
 * Locks the image of a logical unit. The storage forbids others nothing, but lets
 * them see that it is there, until the last of its requests has ended: also those
 * of a process that was killed, which the lock of the unit does not outlive.
 */
function lock(lun: Lun): void {
  lun.shared.acquire();
  // What is counted once is given up once, whatever becomes of the storage.
  lun.locked = true;
  lun.nexus.storage?.acquire();
}

function unlock(lun: Lun): void {
  if (lun.locked) {
    lun.nexus.storage?.release();
    lun.shared.release();
  }
  lun.locked = false;
}
