/**
 * `ctl`: asks a server over its management socket.
 *
 * @module
 */

import { Reactor } from "../../sys/reactor.ts";
import { HostError, messageOf } from "../error.ts";
import { MANAGEMENT_OPTION } from "../options/settings.ts";
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
    "resume NAME|all [OPTION]…",
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
    "resume  has a disk go on that stopped on an error (on-error=stop)",
    "call    calls any method with parameters as a JSON object; rpc.discover",
    "        describes all methods",
  ],
};

/** What a subcommand calls, and how its result is printed. */
interface Action {
  readonly method: string;
  readonly params: Readonly<Record<string, unknown>>;
  readonly print: "status" | "resize" | "resume" | "json";
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
  // The other commands do without the schemas that this one loads.
  const { ManagementClient } = await import("../management/client.ts");
  const print = await import("./ctl_print.ts");
  using reactor = new Reactor();
  using client = ManagementClient.connect(path, reactor);
  const result = await client.call(action.method, action.params, timeout);
  console.log(print[values.json === true ? "json" : action.print](result));
  return 0;
}

function actionOf([verb, ...words]: readonly string[]): Action {
  switch (verb) {
    case "status": {
      const [name] = take(verb, words, 0, 1);
      const params = name === undefined ? {} : { name };
      return { method: "status", params, print: "status" };
    }
    case "resize":
    case "resume": {
      const [name] = take(verb, words, 1, 1);
      return { method: verb, params: { name }, print: verb };
    }
    case "call": {
      const [method, text] = take(verb, words, 1, 2);
      return { method, params: parametersOf(text), print: "json" };
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
