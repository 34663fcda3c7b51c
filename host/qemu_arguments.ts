/**
 * The arguments with which QEMU uses what is served here.
 *
 * @module
 */

import { resolve } from "@std/path";
import type { PlannedDevice } from "./options/device_specs.ts";
import { MAXIMUM_SOCKET_PATH } from "./options/device_specs.ts";
import { joinOptions } from "./options/grammar.ts";

/** After how long, in ms, QEMU connects again (`reconnect-ms`, QEMU 9.2). */
const RECONNECT = "500";
/** Size of the guest's memory in the printed command. */
const MEMORY = "1G";

/**
 * The arguments for the guest's memory: shared, because the devices read and
 * write it from another process.
 *
 * @param size for `-m`: the memory of the guest
 */
export function memoryArguments(size: string = MEMORY): string[] {
  return [
    "-m",
    size,
    "-object",
    joinOptions([
      ["memory-backend-memfd", null],
      ["id", "mem"],
      ["size", size],
      ["share", "on"],
    ]),
    "-machine",
    joinOptions([["q35", null], ["memory-backend", "mem"]]),
  ];
}

/**
 * The arguments for one device. A socket that came as a descriptor has the path
 * `PATH`: only whoever made it knows. QEMU connects again to all but a device
 * whose process it does not survive.
 */
export function deviceArguments(
  { type, spec, options }: PlannedDevice,
): string[] {
  const path = spec.socket === undefined ? "PATH" : absolute(spec.socket);
  return [
    "-chardev",
    joinOptions([
      ["socket", null],
      ["id", spec.name],
      ["path", path],
      ...(type.alone === undefined
        ? [["reconnect-ms", RECONNECT] as const]
        : []),
    ]),
    ...type.qemu(spec.name, options).flatMap(([option, values]) => [
      option,
      joinOptions(values),
    ]),
  ];
}

/** QEMU may run in another directory; a path that got too long stays relative. */
function absolute(path: string): string {
  const full = resolve(path);
  const length = new TextEncoder().encode(full).length;
  return length <= MAXIMUM_SOCKET_PATH ? full : path;
}

/**
 * A command line for people to copy: an option and its value on each line,
 * quoted for a POSIX shell.
 *
 * @param words the program, then options, each with one value
 */
export function formatCommand(words: readonly string[]): string {
  const lines = [words[0]];
  for (let i = 1; i < words.length; i += 2) {
    lines.push(words.slice(i, i + 2).map(quote).join(" "));
  }
  return lines.join(" \\\n  ");
}

function quote(word: string): string {
  if (/^[\w@%+=:,./-]+$/.test(word)) return word;
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

/** The whole command: a guest with these devices. */
export function qemuCommand(devices: readonly PlannedDevice[]): string {
  return formatCommand([
    "qemu-system-x86_64",
    "-accel",
    "kvm",
    "-accel",
    "tcg",
    ...memoryArguments(),
    ...devices.flatMap(deviceArguments),
  ]);
}
