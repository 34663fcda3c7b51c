/**
 * The config file of `serve`: JSON, with the names and limits of the command
 * line.
 *
 * ```json
 * {
 *   "devices": [{ "type": "blk", "path": "disk.img", "queues": 2 }],
 *   "management": "off",
 *   "log-level": "debug"
 * }
 * ```
 *
 * @module
 */

import type { OptionSpec, OptionValues } from "../../backends/option_schema.ts";
import { readTextFile } from "../../sys/proc.ts";
import { DEVICE_TYPES, deviceType } from "../device_types.ts";
import { HostError, messageOf } from "../error.ts";
import type { DeviceRequest } from "./device_specs.ts";
import { parseOptions, type RawValue } from "./parse.ts";
import { SETTINGS } from "./settings.ts";
import { didYouMean } from "../../backends/suggest.ts";

/** What a config file asks for. */
export interface Config {
  /** The devices, their options unchecked. */
  readonly devices: readonly DeviceRequest[];
  /** The settings that are given. */
  readonly settings: OptionValues;
}

/**
 * Reads a config file. Relative paths in it are those of the process.
 *
 * @throws {HostError} of kind `usage`, naming the file and the place in it
 */
export function readConfig(path: string): Config {
  let text: string;
  try {
    text = readTextFile(path);
  } catch (error) {
    throw new HostError(
      "usage",
      `Cannot read the config file: ${messageOf(error)}`,
      { cause: error },
    );
  }
  return parseConfig(path, text);
}

/**
 * Reads the text of a config file.
 *
 * @param path for messages
 * @throws {HostError} of kind `usage`
 *
 * @example Usage
 * ```ts
 * import { parseConfig } from "./config_file.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const { settings } = parseConfig("vhostd.json", '{ "log-level": "debug" }');
 * assertEquals(settings, { logLevel: "debug" });
 * ```
 */
export function parseConfig(path: string, text: string): Config {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new HostError("usage", `${path}: no JSON: ${messageOf(error)}`);
  }
  const { devices = [], ...settings } = membersOf(path, json, "devices");
  if (!Array.isArray(devices)) {
    throw new HostError("usage", `${path}: "devices" is no array`);
  }
  return {
    devices: devices.map((each, i) => request(`${path}: devices[${i}]`, each)),
    settings: parseOptions(
      path,
      SETTINGS.map(withoutDefault),
      Object.entries(settings) as [string, RawValue][],
    ),
  };
}

/** The command line decides about defaults. */
function withoutDefault({ default: _, ...spec }: OptionSpec): OptionSpec {
  return spec;
}

function request(subject: string, json: unknown): DeviceRequest {
  const { type, ...options } = membersOf(subject, json, partsKey(json));
  const known = typeof type === "string" ? deviceType(type) : undefined;
  if (known === undefined) {
    const names = DEVICE_TYPES.map(({ name }) => name);
    const hint = didYouMean(String(type), names) || `: ${names.join(", ")}`;
    throw new HostError(
      "usage",
      type === undefined
        ? `${subject}: "type" is missing: one of ${names.join(", ")}`
        : `${subject}: ${JSON.stringify(type)} is no type of device${hint}`,
    );
  }
  const key = known.parts?.key ?? "";
  const { [key]: listed = [], ...own } = options;
  if (!Array.isArray(listed)) {
    throw new HostError("usage", `${subject}: "${key}" is no array`);
  }
  return {
    subject,
    type: known,
    pairs: Object.entries(own) as [string, RawValue][],
    parts: listed.map((part, i) => {
      const place = `${subject}: ${key}[${i}]`;
      const pairs = Object.entries(membersOf(place, part));
      return { subject: place, pairs: pairs as [string, RawValue][] };
    }),
  };
}

/** The member of a device that lists its parts. */
function partsKey(json: unknown): string | undefined {
  const type = (json as { type?: unknown } | null)?.type;
  return typeof type === "string" ? deviceType(type)?.parts?.key : undefined;
}

/** The members of an object; all but `structured` are plain values. */
function membersOf(
  subject: string,
  json: unknown,
  structured?: string,
): Record<string, unknown> {
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new HostError("usage", `${subject} is no JSON object`);
  }
  for (const [name, value] of Object.entries(json)) {
    if (name === structured) continue;
    if (!["string", "number", "boolean"].includes(typeof value)) {
      throw new HostError(
        "usage",
        `${subject}: "${name}" is no string, number or boolean`,
      );
    }
  }
  return json as Record<string, unknown>;
}
