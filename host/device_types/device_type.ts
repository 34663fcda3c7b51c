/**
 * What the command knows of a type of device.
 *
 * @module
 */

import type { OptionSpec } from "../../backends/option_schema.ts";
import type { StorageOptions } from "../../backends/storage/open.ts";

/** Options of a device as its module takes them: JSON values. */
export type DeviceOptions = Readonly<Record<string, unknown>>;

/** Options of a QEMU command line: `key=value`, or a word alone. */
export type QemuOption = readonly [key: string, value: string | null];

/** A part of a device that is given by an option of its own, `--lun` say. */
export interface PartSpec {
  /** Name of the option. */
  readonly name: string;
  /** What it is, for people. */
  readonly title: string;
  /** Key of the list of all parts in the options of the device. */
  readonly key: string;
  /** Key that says which device it belongs to: its id or socket. */
  readonly owner: string;
  /** The other keys. */
  readonly options: readonly OptionSpec[];
}

/** An image, and what a device does with it. */
export interface ImageUse {
  /** Its path. */
  readonly path: string;
  /** Whether the device leaves it as it is. */
  readonly readOnly: boolean;
}

/** How the type is told of as a back-end program of QEMU. */
export interface ProgramSpec {
  /** The type in QEMU's `vhost-user.json`. */
  readonly type: string;
  /** Features that `--print-capabilities` tells of. */
  readonly features?: readonly string[];
  /** Options besides QEMU's own. */
  readonly options: readonly OptionSpec[];
  /** From those to the keys of the device. */
  readonly pairs: (values: DeviceOptions) => [string, string | boolean][];
}

/** What the command knows of a type of device. */
export interface DeviceType {
  /** The name: `--blk`, `"type": "blk"`. */
  readonly name: string;
  /** What it is, for people. */
  readonly title: string;
  /** URL of the device module. */
  readonly module: string;
  /** Its own options. */
  readonly options: readonly OptionSpec[];
  /** Parts that are given by an option of their own. */
  readonly parts?: PartSpec;
  /** Keys of the options that are inherited descriptors. */
  readonly descriptors?: readonly string[];
  /** Refuses options that contradict each other; throws an error for people. */
  readonly check: (options: DeviceOptions) => void;
  /** Names of its feature bits, without prefix. */
  readonly features: ReadonlyMap<number, string>;
  /** Management commands that it serves. */
  readonly commands: readonly string[];
  /**
   * QEMU's options for it, besides the character device of that name: the name
   * of each with its values.
   */
  readonly qemu: (
    id: string,
    options: DeviceOptions,
  ) => readonly (readonly [option: string, values: readonly QemuOption[]])[];
  /** How many queues it has, and how the front-end and we agree on them. */
  readonly ringHint: (options: DeviceOptions) => string;
  /** What is served, for people: `"disk.img" (1 GiB, read-only)`. */
  readonly describe: (
    options: DeviceOptions,
    status: Readonly<Record<string, unknown>>,
  ) => string;
  /**
   * The images that it wants for itself: those that it shares with anybody
   * (`share=on`) are not among them.
   */
  readonly images: (options: DeviceOptions) => readonly ImageUse[];
  /** Its images, as they are opened. */
  readonly storages?: (options: DeviceOptions) => readonly StorageOptions[];
  /**
   * The process that it shares with others unless told otherwise; `null`: one of
   * its own.
   */
  readonly process?: (options: DeviceOptions) => string | null;
  /**
   * What devices meet on that share a process unless told otherwise, for people;
   * where they meet on the same, they cannot be in two processes.
   */
  readonly meeting?: (options: DeviceOptions) => string | null;
  /** Why it may not share a process. */
  readonly alone?: string;
  /**
   * Devices of one process with the same group share a Worker, because they
   * share state; `null`: they do not.
   */
  readonly workerGroup?: (options: DeviceOptions) => string | null;
  /** As a back-end program of QEMU. */
  readonly program: ProgramSpec;
}

/**
 * A number of queues, and how QEMU and we agree on it.
 *
 * @param name what they are: `request queue`
 * @param option of QEMU: `num-queues`
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { queueHint } from "./device_type.ts";
 *
 * assertEquals(
 *   queueHint(1, "request queue", "num-queues"),
 *   "the device has 1 request queue: num-queues=1 in QEMU, or queues=N here",
 * );
 * ```
 */
export function queueHint(
  queues: unknown,
  name: string,
  option: string,
): string {
  const count = Number(queues ?? 1);
  return `the device has ${count} ${name}${
    count === 1 ? "" : "s"
  }: ${option}=${count} in QEMU, or queues=N here`;
}

/** Source: virtio 1.4, the sections of the devices; names without prefix. */
export function featureMap(
  names: Readonly<Record<number, string>>,
): ReadonlyMap<number, string> {
  return new Map(
    Object.entries(names).map(([bit, name]) => [Number(bit), name]),
  );
}
