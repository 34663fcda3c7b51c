/**
 * The log: one line an event, on stderr.
 *
 * Text lines are `TIME LEVEL message key=value …`; JSON lines are one object
 * each with the members `time`, `level`, `message` and the fields. Control
 * characters are escaped in both, so that nothing a guest or a front-end says
 * can forge a line or drive a terminal.
 *
 * @module
 */

import type { LogLevel } from "../virtqueue/device.ts";

export type { LogLevel };

/** The levels, least severe first. */
export const LOG_LEVELS: readonly LogLevel[] = [
  "debug",
  "info",
  "warn",
  "error",
];

/** How a line looks. */
export type LogFormat = "text" | "json";

/** The formats. */
export const LOG_FORMATS: readonly LogFormat[] = ["text", "json"];

/** What a {@linkcode Logger} is made from. */
export interface LoggerOptions {
  /** Least severe level that is written; default `info`. */
  readonly level?: LogLevel;
  /** How a line looks; default `text`. */
  readonly format?: LogFormat;
  /** Fields of every line. */
  readonly fields?: Readonly<Record<string, unknown>>;
  /** Where a line goes, its line feed included; default stderr. */
  readonly write?: (line: string) => void;
}

/**
 * Writes log lines.
 *
 * @example Usage
 * ```ts
 * import { Logger } from "./log.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const lines: string[] = [];
 * const log = new Logger({ format: "json", write: (line) => lines.push(line) });
 * log.child({ device: "blk" }).warn("Ring is broken", { ring: 0 });
 * log.debug("not written: the level is info");
 *
 * assertEquals(lines.length, 1);
 * const { level, message, device, ring } = JSON.parse(lines[0]);
 * assertEquals([level, message, device, ring], ["warn", "Ring is broken", "blk", 0]);
 * ```
 */
export class Logger {
  /** Least severe level that is written. */
  readonly level: LogLevel;
  /** How a line looks. */
  readonly format: LogFormat;
  readonly #threshold: number;
  readonly #fields: Readonly<Record<string, unknown>>;
  readonly #write: (line: string) => void;

  /** Makes a logger; see {@linkcode LoggerOptions} for the defaults. */
  constructor(options: LoggerOptions = {}) {
    this.level = options.level ?? "info";
    this.format = options.format ?? "text";
    this.#threshold = LOG_LEVELS.indexOf(this.level);
    this.#fields = options.fields ?? {};
    this.#write = options.write ?? writeToStderr;
  }

  /** A logger whose lines carry `fields` as well. */
  child(fields: Readonly<Record<string, unknown>>): Logger {
    return new Logger({
      level: this.level,
      format: this.format,
      fields: { ...this.#fields, ...fields },
      write: this.#write,
    });
  }

  /** Writes a line for whoever looks for the cause of something. */
  debug(message: string, fields?: Readonly<Record<string, unknown>>): void {
    this.log("debug", message, fields);
  }

  /** Writes a line about the normal course of things. */
  info(message: string, fields?: Readonly<Record<string, unknown>>): void {
    this.log("info", message, fields);
  }

  /** Writes a line about something that went wrong and was dealt with. */
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void {
    this.log("warn", message, fields);
  }

  /** Writes a line about something that failed. */
  error(message: string, fields?: Readonly<Record<string, unknown>>): void {
    this.log("error", message, fields);
  }

  /** Writes a line of the given level. */
  log(
    level: LogLevel,
    message: string,
    fields?: Readonly<Record<string, unknown>>,
  ): void {
    if (LOG_LEVELS.indexOf(level) < this.#threshold) return;
    const time = new Date().toISOString();
    const all = { ...this.#fields, ...fields };
    const line = this.format === "json"
      ? JSON.stringify({ time, level, message, ...withoutNames(all) }, json)
      : `${time} ${level.padEnd(5)} ${oneLine(message)}${textFields(all)}`;
    this.#write(line + "\n");
  }
}

/** A field must not replace what every line has. */
function withoutNames(
  fields: Record<string, unknown>,
): Record<string, unknown> {
  const renamed: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    const taken = name === "time" || name === "level" || name === "message";
    renamed[taken ? `${name}_` : name] = value;
  }
  return renamed;
}

function textFields(fields: Record<string, unknown>): string {
  let text = "";
  for (const [name, value] of Object.entries(fields)) {
    if (value !== undefined) text += ` ${name}=${textValue(value)}`;
  }
  return text;
}

function textValue(value: unknown): string {
  if (typeof value === "string" && /^[^\s"=\p{C}]+$/u.test(value)) return value;
  if (typeof value === "bigint" || value instanceof Error) {
    return textValue(json("", value));
  }
  return oneLine(JSON.stringify(value, json) ?? String(value));
}

/** What JSON has no form for. */
function json(_name: string, value: unknown): unknown {
  if (typeof value === "bigint") return `0x${value.toString(16)}`;
  if (value instanceof Error) return value.message;
  return value;
}

/** Escapes control, format and unassigned characters as `\u{…}`. */
function oneLine(text: string): string {
  return text.replace(
    /[\p{C}\u2028\u2029]/gu,
    (char) => `\\u{${char.codePointAt(0)!.toString(16)}}`,
  );
}

const encoder = new TextEncoder();

/** A log that cannot be written (closed pipe, full disk) stops nothing. */
function writeToStderr(line: string): void {
  let rest = encoder.encode(line);
  try {
    while (rest.length > 0) rest = rest.subarray(Deno.stderr.writeSync(rest));
  } catch {
    // There is nowhere left to say so.
  }
}
