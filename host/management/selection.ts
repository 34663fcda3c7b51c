/**
 * Which devices a management method is about.
 *
 * @module
 */

import { deviceType } from "../device_types.ts";
import { HostError } from "../error.ts";
import { didYouMean } from "../../backends/suggest.ts";
import type { DeviceOptions } from "../device_types.ts";

/** What management asks of a device. */
export interface ManagedDevice {
  /** Its name. */
  readonly name: string;
  /** Name of its type. */
  readonly type: string;
  /** Name of the process that it shares with others, or `null`. */
  readonly process: string | null;
  /** Facts and counters: a JSON object. */
  status(): Promise<Record<string, unknown>>;
  /** A command of the device; returns a JSON value. */
  command(
    name: string,
    parameters: Readonly<Record<string, unknown>>,
  ): Promise<unknown>;
  /** Changes the options with which the device is started again, if it is. */
  amend(change: (options: DeviceOptions) => DeviceOptions): void;
}

/** Means every device where a name is asked for. */
export const ALL = "all";

/**
 * The devices that a name means.
 *
 * @param command what they are to do; of all devices, those that can do it
 * @throws {HostError} of kind `usage`
 */
export function select(
  devices: readonly ManagedDevice[],
  name: string,
  command?: string,
): readonly ManagedDevice[] {
  if (name === ALL) {
    return command === undefined
      ? devices
      : devices.filter((device) => knows(device, command));
  }
  const device = devices.find((each) => each.name === name);
  if (device === undefined) throw unknownName(devices, name);
  return [device];
}

/**
 * The one device of a type that is meant: that of the name, or the only one.
 *
 * @throws {HostError} of kind `usage`
 */
export function selectOne(
  devices: readonly ManagedDevice[],
  type: string,
  name: string | undefined,
): ManagedDevice {
  const candidates = devices.filter((device) => device.type === type);
  const names = candidates.map((device) => device.name);
  const { title = type } = deviceType(type) ?? {};
  if (name === undefined) {
    if (candidates.length === 1) return candidates[0];
    throw new HostError(
      "usage",
      candidates.length === 0
        ? `There is no ${title} here`
        : `Say which ${title}: ${names.join(", ")}`,
    );
  }
  const [device] = select(devices, name);
  if (device.type === type) return device;
  throw new HostError("usage", `"${name}" is no ${title}`);
}

function knows({ type }: ManagedDevice, command: string): boolean {
  const known = deviceType(type);
  return known === undefined || known.commands.includes(command);
}

function unknownName(
  devices: readonly ManagedDevice[],
  name: string,
): HostError {
  const names = devices.map((each) => each.name);
  return new HostError(
    "usage",
    `There is no device "${name}"${
      didYouMean(name, names) || `: ${names.join(", ")}`
    }`,
  );
}
