/**
 * The results of management methods, as people read them.
 *
 * @module
 */

import type { z } from "zod";
import { Resize, Resume, Status } from "../management/device_methods.ts";
import {
  Balloon,
  BalloonStats,
  Link,
  Lun,
} from "../management/type_methods.ts";
import { describeSize } from "../options/parse.ts";
import { PROGRAM } from "../version.ts";

export { metrics } from "./ctl_metrics.ts";

/** Any result, as JSON. */
export function json(result: unknown): string {
  return JSON.stringify(result, null, 2);
}

/** The result of `resize`, a line for each device. */
export function resize(result: unknown): string {
  const { devices } = Resize.parse(result);
  if (devices.length === 0) return "There are no disks here";
  return devices.map((device) => {
    const { name, capacity, previousCapacity } = device;
    const now = `${name}: ${describeSize(capacity)}`;
    return capacity === previousCapacity
      ? `${now}, as before`
      : `${now}, was ${describeSize(previousCapacity)}`;
  }).join("\n");
}

/** The result of `resume`, a line for each device. */
export function resume(result: unknown): string {
  const { devices } = Resume.parse(result);
  if (devices.length === 0) return "There are no disks here";
  return devices.map(({ name }) => `${name}: goes on`).join("\n");
}

/** The result of `link`. */
export function link(result: unknown): string {
  const { name, up } = Link.parse(result);
  return `${name}: the link is ${up ? "up" : "down"}`;
}

/** The result of `balloon.set` and `balloon.status`. */
export function balloon(result: unknown): string {
  const { name, memory, guestTarget, actual, reclaimed, progress } = Balloon
    .parse(result);
  return [
    `${name}: the guest has ${describeSize(memory - actual)} of ${
      describeSize(memory)
    }, it is to have ${describeSize(guestTarget)} (${
      Math.floor(progress * 100)
    } % of the way)`,
    `  reclaimed: ${describeSize(reclaimed)}`,
  ].join("\n");
}

/** The result of `balloon.stats`. */
export function stats(result: unknown): string {
  const { name, stats, statsAge } = BalloonStats.parse(result);
  const age = statsAge === null
    ? "the guest has told none"
    : `${statsAge.toFixed(1)} s old`;
  return [`${name}: ${age}`, ...tree(stats, "  ")].join("\n");
}

/** The result of the methods about logical units. */
export function lun(result: unknown): string {
  const { name, target, lun, ...facts } = Lun.parse(result);
  return [`${name}: target ${target}, LUN ${lun}`, ...tree(facts, "  ")]
    .join("\n");
}

/** The result of `status`, a paragraph for each device. */
export function status(result: unknown): string {
  const { version, pid, uptime, devices } = Status.parse(result);
  return [
    `${PROGRAM} ${version}, pid ${pid}, running for ${duration(uptime)}`,
    ...devices.flatMap((device) => ["", ...deviceText(device)]),
  ].join("\n");
}

function deviceText(
  device: z.infer<typeof Status>["devices"][number],
): string[] {
  const { name, type, socket, connected, session, rings, ...rest } = device;
  const lines = [
    `${name} (${type}) on ${socket ?? "an inherited descriptor"}: ${
      rest.state !== "running"
        ? rest.state
        : connected
        ? "a front-end is connected"
        : "no front-end is connected"
    }`,
    `  process: ${processText(rest)}`,
  ];
  if (rest.problem !== null) lines.push(`  problem: ${plain(rest.problem)}`);
  if (rest.lastExit !== null) {
    lines.push(`  last exit: ${plain(rest.lastExit)}`);
  }
  lines.push(
    `  connections: ${rest.connections}, refused: ${rest.refusedConnections}`,
  );
  if (session !== null) {
    lines.push(
      `  features: ${session.featureNames.join(" ") || "none"}`,
      `  protocol features: ${session.protocolFeatures.join(" ") || "none"}`,
    );
  }
  for (const { index, ...facts } of rings) {
    lines.push(`  ring ${index}: ${inline(facts)}`);
  }
  return [...lines, ...tree(device.device, "  ")];
}

/** `disks, pid 7, 60.5 MiB, restarts 0`. */
function processText(
  { process, pid, rss, restarts }: Pick<
    z.infer<typeof Status>["devices"][number],
    "process" | "pid" | "rss" | "restarts"
  >,
): string {
  return [
    ...(process === null ? [] : [process]),
    pid === null ? "none" : `pid ${pid}`,
    ...(rss === null ? [] : [`${(rss / (1 << 20)).toFixed(1)} MiB`]),
    `restarts ${restarts}`,
  ].join(", ");
}

/** `size 128, in flight 0`; facts without a value are left out. */
function inline(facts: Readonly<Record<string, unknown>>): string {
  return Object.entries(facts)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${words(name)} ${plain(value)}`)
    .join(", ");
}

/** One line for each plain value, nested objects indented. */
function tree(
  facts: Readonly<Record<string, unknown>>,
  indent: string,
): string[] {
  return Object.entries(facts).flatMap(([name, value]) => {
    const label = `${indent}${words(name)}:`;
    if (Array.isArray(value) && value.length > 0 && value.every(isObject)) {
      return [
        label,
        ...value.flatMap((each) => {
          const [first = "none", ...rest] = tree(each, indent + "    ");
          return [`${indent}  - ${first.trimStart()}`, ...rest];
        }),
      ];
    }
    if (!isObject(value)) return [`${label} ${plain(value)}`];
    const inner = tree(value, indent + "  ");
    return inner.length === 0 ? [`${label} none`] : [label, ...inner];
  });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** `inFlight` becomes `in flight`; a name such as `EIO` stays. */
function words(name: string): string {
  return /^[A-Z]/.test(name)
    ? name
    : name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

function plain(value: unknown): string {
  if (value === null) return "none";
  // A path or a serial number may hold anything.
  if (typeof value === "string" && /^[^\p{C}]+$/u.test(value)) return value;
  return JSON.stringify(value);
}

function duration(seconds: number): string {
  const parts: [number, string][] = [
    [Math.floor(seconds / 86400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [seconds % 60, "s"],
  ];
  const first = parts.findIndex(([value]) => value > 0);
  return parts.slice(first < 0 ? 3 : first).slice(0, 2)
    .map(([value, unit]) => `${value} ${unit}`).join(" ");
}
