/**
 * What management does to a SCSI host, and what its driver is told of that.
 *
 * @module
 */

import { hasFeature } from "../../virtqueue/constants.ts";
import type { GivenOptions } from "../option_reader.ts";
import type { LogicalUnits, Lun } from "./logical_units.ts";
import { type EventQueue, lunField } from "./events.ts";
import { type ResolvedLun, resolveLun, resolvePlace } from "./options.ts";
import {
  ASYNC_MEDIA_CHANGE,
  Event,
  ResetReason,
  VIRTIO_SCSI_F_CHANGE,
  VIRTIO_SCSI_F_HOTPLUG,
} from "./protocol.ts";
import { UNIT_CDROM } from "./target/command.ts";
import { Asc } from "./target/constants.ts";
import type { Nexus } from "./target/nexus.ts";

/** The host, as its management needs it. */
export interface ManagedHost {
  /** Events that the driver wants to be told of, by logical unit. */
  readonly subscriptions: Map<Nexus, number>;
  /** Makes a logical unit. */
  add(options: ResolvedLun): Lun;
  /** Facts of all. */
  status(): Record<string, unknown>;
  /** Tells people what was done. */
  log(message: string): void;
}

/** The commands of a SCSI host. */
export class Management {
  /** Features that were negotiated. */
  features = 0n;
  readonly #host: ManagedHost;
  readonly #units: LogicalUnits;
  readonly #events: EventQueue;

  /** Serves the commands of a host. */
  constructor(host: ManagedHost, units: LogicalUnits, events: EventQueue) {
    this.#host = host;
    this.#units = units;
    this.#events = events;
  }

  /**
   * Serves a management command. `target` and `lun` name a logical unit (both 0
   * by default).
   *
   * - `lun-add`: adds one; takes a {@linkcode LunOptions}
   * - `lun-remove`: takes it away; resolves when its last command has ended
   * - `lun-resize`: looks at the size of its image again
   * - `resize`: looks at the sizes of all images again
   * - `change-medium`: puts the image `path` into it, or with none takes it out
   * - `status`: facts of all logical units
   *
   * @throws {ScsiLunError} when the logical unit cannot be that
   * @throws {OptionError} when an option is wrong
   */
  command(
    name: string,
    parameters: Readonly<Record<string, unknown>>,
  ): unknown | Promise<unknown> {
    switch (name) {
      case "lun-add":
        return this.#addCommand(parameters);
      case "lun-remove":
        return this.#removeCommand(this.#lunOf(parameters));
      case "lun-resize":
        return this.#units.resize(this.#lunOf(parameters));
      case "resize":
        return this.#units.resizeAll();
      case "change-medium":
        return this.#mediumCommand(
          this.#lunOf(parameters, "path"),
          parameters,
        );
      case "status":
        return this.#host.status();
      default:
        throw new Error(
          `Cannot do "${name}": a SCSI host has the commands lun-add, ` +
            "lun-remove, lun-resize, resize, change-medium and status",
        );
    }
  }

  /** Tells the driver that parameters of a logical unit, or its medium, changed. */
  changed({ target, lun, nexus }: Lun, asc: number): void {
    if (asc === Asc.NOT_READY_TO_READY_CHANGE_MEDIUM_MAY_HAVE_CHANGED) {
      const subscribed = this.#host.subscriptions.get(nexus) ?? 0;
      if ((subscribed & ASYNC_MEDIA_CHANGE) !== 0) {
        const field = lunField(target, lun);
        this.#events.raise(Event.ASYNC_NOTIFY, field, ASYNC_MEDIA_CHANGE);
      }
      // Linux asks CD-ROMs again and again, and has no use for this event.
      if (nexus.unit.kind === UNIT_CDROM) return;
    }
    if (!hasFeature(this.features, VIRTIO_SCSI_F_CHANGE)) return;
    const reason = asc >> 8 | (asc & 0xff) << 8;
    this.#events.raise(Event.PARAMETER_CHANGE, lunField(target, lun), reason);
  }

  #lunOf(parameters: GivenOptions, ...more: readonly string[]): Lun {
    const { target, lun } = resolvePlace(parameters, more);
    return this.#units.find(target, lun);
  }

  #addCommand(parameters: Readonly<Record<string, unknown>>): unknown {
    const { target, lun, nexus } = this.#host.add(resolveLun(parameters));
    if (hasFeature(this.features, VIRTIO_SCSI_F_HOTPLUG)) {
      const field = lunField(target, lun);
      this.#events.raise(Event.TRANSPORT_RESET, field, ResetReason.RESCAN);
    }
    const { capacity, blockSize } = nexus.unit;
    this.#host.log(`target ${target}, LUN ${lun} was added`);
    return { target, lun, capacity: capacity * blockSize };
  }

  async #removeCommand(found: Lun): Promise<unknown> {
    const { target, lun, nexus } = found;
    this.#host.subscriptions.delete(nexus);
    if (hasFeature(this.features, VIRTIO_SCSI_F_HOTPLUG)) {
      const field = lunField(target, lun);
      this.#events.raise(Event.TRANSPORT_RESET, field, ResetReason.REMOVED);
    }
    await this.#units.remove(found);
    this.#host.log(`target ${target}, LUN ${lun} was removed`);
    return { target, lun };
  }

  async #mediumCommand(
    found: Lun,
    parameters: Readonly<Record<string, unknown>>,
  ): Promise<unknown> {
    const { target, lun, nexus } = found;
    const path = parameters.path ?? "";
    if (typeof path !== "string") {
      throw new TypeError(`Cannot use path=${String(path)}: it is a path`);
    }
    const places = await this.#units.changeMedium(found, path);
    const { capacity, blockSize } = nexus.unit;
    return { target, lun, path, capacity: capacity * blockSize, places };
  }
}
