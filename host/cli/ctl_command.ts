/**
 * `ctl`: asks a server over its management socket.
 *
 * @module
 */

import type { z } from "zod";
import { Reactor } from "../../sys/reactor.ts";
import { HostError, messageOf } from "../error.ts";
import { ManagementClient } from "../management/client.ts";
import { Resize, Status } from "../management/device_methods.ts";
import { MANAGEMENT_OPTION } from "../options/settings.ts";
import { describeSize } from "../options/parse.ts";
import { didYouMean } from "../options/suggest.ts";
import { requireRuntime } from "../requirements.ts";
import { PROGRAM } from "../version.ts";
import { type CommandSpec, parseCommand } from "./command.ts";
import { commandHelp } from "./help.ts";

/** The description of the command. */
export const CTL: CommandSpec = {
  name: "ctl",
  summary: "Asks a server, or tells it what to do",
  usage: [
    "status [NAME] [--json] [OPTION]…",
    "resize NAME|all [OPTION]…",
    "call METHOD [PARAMETERS] [OPTION]…",
  ],
  flags: [
    { ...MANAGEMENT_OPTION, help: "management socket of the server" },
    { name: "json", type: "flag", help: "print the result as JSON" },
    {
      name: "timeout",
      type: "integer",
      minimum: 1,
      maximum: 3600,
      default: 30,
      help: "seconds to wait for an answer",
    },
  ],
  maximumArguments: 3,
  notes: [
    "status  tells of the devices, their connections, rings and counters",
    "resize  makes a device look at the size of its image again",
    "call    calls any method with parameters as a JSON object; rpc.discover",
    "        describes all methods",
  ],
};

/** What a subcommand calls, and how its result is printed. */
interface Action {
  readonly method: string;
  readonly params: Readonly<Record<string, unknown>>;
  readonly print: (result: unknown) => string;
}

/** Runs the command; returns the exit code. */
export async function ctl(args: readonly string[]): Promise<number> {
  const { help, values, arguments: words } = parseCommand(CTL, args);
  if (help) {
    console.log(commandHelp(CTL));
    return 0;
  }
  const action = actionOf(words);
  requireRuntime();
  const path = String(values.management ?? MANAGEMENT_OPTION.default);
  const timeout = 1000 * Number(values.timeout ?? 30);
  using reactor = new Reactor();
  using client = ManagementClient.connect(path, reactor);
  const result = await client.call(action.method, action.params, timeout);
  console.log(values.json === true ? json(result) : action.print(result));
  return 0;
}

function actionOf([verb, ...words]: readonly string[]): Action {
  switch (verb) {
    case "status": {
      const [name] = take(verb, words, 0, 1);
      const params = name === undefined ? {} : { name };
      return { method: "status", params, print: statusText };
    }
    case "resize": {
      const [name] = take(verb, words, 1, 1);
      return { method: "resize", params: { name }, print: resizeText };
    }
    case "call": {
      const [method, text] = take(verb, words, 1, 2);
      return { method, params: parametersOf(text), print: json };
    }
  }
  const forms = CTL.usage.map((form) => form.split(" ")[0]);
  throw new HostError(
    "usage",
    verb === undefined
      ? `ctl: what to do is missing: one of ${forms.join(", ")}`
      : `ctl: there is no "${verb}"${
        didYouMean(verb, forms) || `: one of ${forms.join(", ")}`
      }`,
  );
}

function take(
  verb: string,
  words: readonly string[],
  least: number,
  most: number,
): readonly string[] {
  if (words.length >= least && words.length <= most) return words;
  const form = CTL.usage.find((usage) => usage.startsWith(verb))!;
  throw new HostError("usage", `ctl: write ${PROGRAM} ctl ${form}`);
}

function parametersOf(text: string | undefined): Record<string, unknown> {
  if (text === undefined) return {};
  let params: unknown;
  try {
    params = JSON.parse(text);
  } catch (error) {
    throw new HostError(
      "usage",
      `ctl: the parameters are no JSON: ${messageOf(error)}`,
    );
  }
  if (typeof params !== "object" || params === null || Array.isArray(params)) {
    throw new HostError("usage", "ctl: the parameters are no JSON object");
  }
  return params as Record<string, unknown>;
}

function json(result: unknown): string {
  return JSON.stringify(result, null, 2);
}

function resizeText(result: unknown): string {
  return Resize.parse(result).devices.map((device) => {
    const { name, capacity, previousCapacity } = device;
    const now = `${name}: ${describeSize(capacity)}`;
    return capacity === previousCapacity
      ? `${now}, as before`
      : `${now}, was ${describeSize(previousCapacity)}`;
  }).join("\n");
}

function statusText(result: unknown): string {
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
      connected ? "a front-end is connected" : "no front-end is connected"
    }`,
    `  connections: ${rest.connections}, refused: ${rest.refusedConnections}`,
  ];
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
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      return [`${label} ${plain(value)}`];
    }
    const inner = tree(value as Record<string, unknown>, indent + "  ");
    return inner.length === 0 ? [`${label} none`] : [label, ...inner];
  });
}

/** `inFlight` becomes `in flight`. */
function words(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

function plain(value: unknown): string {
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
