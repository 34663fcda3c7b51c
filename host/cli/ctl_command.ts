/**
 * `ctl`: asks a server over its management socket.
 *
 * @module
 */

import { resolve } from "@std/path";
import type { OptionSpec } from "../../backends/option_schema.ts";
import { Reactor } from "../../sys/reactor.ts";
import { SCSI } from "../device_types.ts";
import { HostError, messageOf } from "../error.ts";
import { splitOptions } from "../options/grammar.ts";
import { parseOptions } from "../options/parse.ts";
import { MANAGEMENT_OPTION } from "../options/settings.ts";
import { didYouMean } from "../../backends/suggest.ts";
import { requireRuntime } from "../requirements.ts";
import { PROGRAM } from "../version.ts";
import { type CommandSpec, parseCommand } from "./command.ts";
import { commandHelp } from "./help.ts";
import { print } from "./output.ts";

/** The description of the command. */
export const CTL: CommandSpec = {
  name: "ctl",
  summary: "Asks a server, or tells it what to do",
  usage: [
    "status [NAME] [--json] [OPTION]…",
    "metrics [NAME] [OPTION]…",
    "resize NAME|all [OPTION]…",
    "resume NAME|all [OPTION]…",
    "link up|down [NAME] [OPTION]…",
    "balloon set SIZE [NAME] [--wait] [OPTION]…",
    "balloon status|stats [NAME] [OPTION]…",
    "lun add|remove|resize|change-medium KEYS [OPTION]…",
    "call METHOD [PARAMETERS] [OPTION]…",
  ],
  flags: [
    { ...MANAGEMENT_OPTION, help: "management socket of the server" },
    { name: "json", type: "flag", help: "print the result as JSON" },
    {
      name: "wait",
      type: "flag",
      help: "wait until the balloon is there, and show how far it is",
    },
    {
      name: "timeout",
      type: "integer",
      minimum: 1,
      maximum: 3600,
      default: 30,
      help: "seconds to wait for an answer",
    },
  ],
  maximumArguments: 4,
  notes: [
    "status   tells of the devices, their connections, rings and counters",
    "metrics  prints all numbers of status in the text format of Prometheus",
    "resize   makes disks look at the size of their images again",
    "resume   has a disk go on that stopped on an error (on-error=stop)",
    "link     plugs the cable of a network device in, or pulls it",
    "balloon  set says how much memory the guest is to have: 1G, 50%, or a change",
    "         such as +512M or -25%; stats asks the guest for its statistics",
    "lun      changes the logical units of a SCSI host; KEYS are those of --lun:",
    "         ctl lun add hba=scsi,target=1,path=data.img",
    "call     calls any method with parameters as a JSON object; rpc.discover",
    "         describes all methods",
    "",
    "NAME and hba= may be left out where there is one device of the type.",
  ],
};

/** What a subcommand calls, and how its result is printed. */
interface Action {
  readonly method: string;
  readonly params: Readonly<Record<string, unknown>>;
  readonly print:
    | "status"
    | "metrics"
    | "resize"
    | "resume"
    | "link"
    | "balloon"
    | "stats"
    | "lun"
    | "json";
}

/** Runs the command; returns the exit code. */
export async function ctl(args: readonly string[]): Promise<number> {
  const { help, values, arguments: words } = parseCommand(CTL, args);
  if (help) {
    print(commandHelp(CTL));
    return 0;
  }
  const action = actionOf(words);
  const wait = values.wait === true;
  if (wait && action.method !== "balloon.set") {
    throw new HostError("usage", "ctl: --wait is for ctl balloon set only");
  }
  requireRuntime();
  const path = String(values.management ?? MANAGEMENT_OPTION.default);
  const timeout = 1000 * Number(values.timeout ?? 30);
  // The other commands do without the schemas that this one loads.
  const { ManagementClient } = await import("../management/client.ts");
  const printers = await import("./ctl_print.ts");
  using reactor = new Reactor();
  using client = ManagementClient.connect(path, reactor);
  let result = await client.call(action.method, action.params, timeout);
  if (wait) {
    const { watchBalloon } = await import("./watch_balloon.ts");
    const { name } = result as { name: string };
    result = await watchBalloon(
      () => client.call("balloon.status", { name }, timeout),
    );
  }
  print(printers[values.json === true ? "json" : action.print](result));
  return 0;
}

function actionOf([verb, ...words]: readonly string[]): Action {
  switch (verb) {
    case "status":
    case "metrics": {
      const [name] = take(verb, words, 0, 1);
      const params = name === undefined ? {} : { name };
      return { method: "status", params, print: verb };
    }
    case "resize":
    case "resume": {
      const [name] = take(verb, words, 1, 1);
      return { method: verb, params: { name }, print: verb };
    }
    case "link": {
      const [state, name] = take(verb, words, 1, 2);
      if (state !== "up" && state !== "down") {
        throw new HostError(
          "usage",
          `ctl: a link is up or down, not "${state}"`,
        );
      }
      const params = { name, up: state === "up" };
      return { method: "link", params, print: "link" };
    }
    case "balloon":
      return balloonAction(words);
    case "lun":
      return lunAction(words);
    case "call": {
      const [method, text] = take(verb, words, 1, 2);
      return { method, params: parametersOf(text), print: "json" };
    }
  }
  const forms = [...new Set(CTL.usage.map((form) => form.split(" ")[0]))];
  throw new HostError(
    "usage",
    verb === undefined
      ? `ctl: what to do is missing: one of ${forms.join(", ")}`
      : `ctl: there is no "${verb}"${
        didYouMean(verb, forms) || `: one of ${forms.join(", ")}`
      }`,
  );
}

function balloonAction([what, ...words]: readonly string[]): Action {
  switch (what) {
    case "set": {
      const [size, name] = take("balloon set", words, 1, 2);
      const params = { name, size };
      return { method: "balloon.set", params, print: "balloon" };
    }
    case "status":
    case "stats": {
      const [name] = take("balloon status", words, 0, 1);
      const print = what === "status" ? "balloon" : "stats";
      return { method: `balloon.${what}`, params: { name }, print };
    }
  }
  throw choose("balloon", what, ["set", "status", "stats"]);
}

const LUN_ACTIONS = ["add", "remove", "resize", "change-medium"];

/** The keys of `--lun`, of which none has a default here: the server has them. */
function lunAction([what, ...words]: readonly string[]): Action {
  if (!LUN_ACTIONS.includes(what)) throw choose("lun", what, LUN_ACTIONS);
  const { owner, options } = SCSI.parts!;
  const [keys] = take("lun", words, 1, 1);
  const schema: OptionSpec[] = [
    { name: owner, type: "string", help: "" },
    ...options.map(({ default: _, ...spec }) => spec),
  ];
  const { [owner]: name, path, ...unit } = parseOptions(
    `ctl lun ${what}`,
    schema,
    splitOptions(keys),
  );
  const place = path === undefined ? {} : { path: resolve(String(path)) };
  const params = { name, ...unit, ...place };
  return { method: `lun.${what}`, params, print: "lun" };
}

function choose(
  verb: string,
  what: string | undefined,
  all: readonly string[],
): HostError {
  return new HostError(
    "usage",
    what === undefined
      ? `ctl: what to do with the ${verb} is missing: one of ${all.join(", ")}`
      : `ctl: there is no "${verb} ${what}"${
        didYouMean(what, all) || `: one of ${all.join(", ")}`
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
  const surplus = words.length > most
    ? `"${words[most]}" is one argument too many: `
    : "";
  throw new HostError("usage", `ctl: ${surplus}write ${PROGRAM} ctl ${form}`);
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
