/**
 * What devices cannot have both: names, sockets, descriptors, images; and what
 * they can only have together.
 *
 * @module
 */

import { resolve } from "@std/path";
import { DataFile } from "../../sys/file.ts";
import { HostError } from "../error.ts";
import type { PlannedDevice } from "./device_specs.ts";

/**
 * Refuses devices that each could be served, but not all together.
 *
 * @throws {HostError} of kind `usage`, naming two of them
 */
export function refuseConflicts(devices: readonly PlannedDevice[]): void {
  const names = new Map<string, string>();
  const sockets = new Map<string, string>();
  const descriptors = new Map<number, string>();
  for (const { type, spec, options } of devices) {
    const { name, socket, fd } = spec;
    if (names.has(name)) {
      throw new HostError("usage", `Two devices have the name "${name}"`);
    }
    names.set(name, name);
    if (socket !== undefined) {
      refuseTwice(sockets, resolve(socket), name, `listen on "${socket}"`);
    }
    const others = type.descriptors?.map((key) => options[key]) ?? [];
    for (const each of [fd, ...others]) {
      if (typeof each !== "number") continue;
      refuseTwice(descriptors, each, name, `use fd ${each}`);
    }
  }
  refuseSeparation(devices);
  if (devices.length > 1) refuseImageConflicts(devices);
}

/** Refuses devices that are to meet, and are in two processes. */
function refuseSeparation(devices: readonly PlannedDevice[]): void {
  const first = new Map<string, PlannedDevice>();
  for (const device of devices) {
    const { type, options, spec, process } = device;
    const meeting = type.meeting?.(options) ?? null;
    if (meeting === null) continue;
    const other = first.get(meeting);
    if (other !== undefined && other.process !== process) {
      throw new HostError(
        "usage",
        `"${other.spec.name}" and "${spec.name}" cannot meet on ${meeting} from the processes "${other.process}" and "${process}": give both the same process=, or none`,
      );
    }
    first.set(meeting, device);
  }
}

/** A device that wants an image for itself. */
interface ImageUser {
  readonly device: PlannedDevice;
  readonly readOnly: boolean;
}

/** Refuses a device that writes an image which another one uses. */
function refuseImageConflicts(devices: readonly PlannedDevice[]): void {
  const users = new Map<string, ImageUser[]>();
  for (const device of devices) {
    for (const { path, readOnly } of device.type.images(device.options)) {
      const identity = identityOf(path);
      if (identity === null) continue;
      const before = users.get(identity) ?? [];
      for (const other of before) {
        if (readOnly && other.readOnly) continue;
        if (areAcquainted(other.device, device)) continue;
        throw imageConflict(path, other, { device, readOnly });
      }
      users.set(identity, [...before, { device, readOnly }]);
    }
  }
}

/** Devices of one Worker know of each other. */
function areAcquainted(one: PlannedDevice, two: PlannedDevice): boolean {
  if (one === two) return true;
  return one.process !== null && one.process === two.process &&
    one.spec.workerGroup != null &&
    one.spec.workerGroup === two.spec.workerGroup;
}

function imageConflict(
  path: string,
  one: ImageUser,
  two: ImageUser,
): HostError {
  const share = "or share=on to both if the guests are made for it";
  const [writer, reader] = one.readOnly ? [two, one] : [one, two];
  const [wrote, read] = [writer, reader].map(({ device }) => device.spec.name);
  return new HostError(
    "usage",
    reader.readOnly
      ? `"${read}" cannot use "${path}", which "${wrote}" writes; add readonly=on to both, ${share}`
      : `"${wrote}" and "${read}" cannot both write "${path}"; add readonly=on to both, ${share}`,
  );
}

function refuseTwice<Key>(
  seen: Map<Key, string>,
  key: Key,
  name: string,
  what: string,
): void {
  const other = seen.get(key);
  if (other !== undefined) {
    throw new HostError(
      "usage",
      `"${other}" and "${name}" cannot both ${what}`,
    );
  }
  seen.set(key, name);
}

/** What distinguishes a file from others; `null` when it cannot be opened. */
function identityOf(path: string): string | null {
  try {
    using file = DataFile.open(path, { readOnly: true });
    const { dev, ino } = file.identity();
    return `${file.kind} ${dev} ${ino}`;
  } catch {
    // The device will say what is wrong with it.
    return null;
  }
}
