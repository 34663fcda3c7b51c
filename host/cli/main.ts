/**
 * The command: finds the subcommand, and turns errors into one line and an exit
 * code.
 *
 * @module
 */

import { DEVICE_TYPES } from "../device_types.ts";
import { HostError, messageOf } from "../error.ts";
import { Logger } from "../log.ts";
import { didYouMean } from "../../backends/suggest.ts";
import { PROGRAM, VERSION } from "../version.ts";
import { type CommandSpec, parseCommand } from "./command.ts";
import { CTL, ctl } from "./ctl_command.ts";
import { commandHelp, deviceHelp, markdownPage } from "./help.ts";
import { print } from "./output.ts";
import { programSpec, runProgram } from "./program_command.ts";
import { SERVE, serve } from "./serve_command.ts";

type Run = (args: readonly string[]) => Promise<number> | number;

const OPTIONS: CommandSpec = {
  name: "options",
  summary: "Prints all keys of devices, or the reference page of all options",
  usage: ["[--markdown]"],
  flags: [{
    name: "markdown",
    type: "flag",
    help: "print the reference page as Markdown",
  }],
  maximumArguments: 0,
};

const VERSION_COMMAND: CommandSpec = {
  name: "version",
  summary: "Prints the version, that of the runtime included",
  usage: [""],
  flags: [],
  maximumArguments: 0,
};

const HELP: CommandSpec = {
  name: "help",
  summary: "Prints what a command does and its options",
  usage: ["[COMMAND]"],
  flags: [],
  maximumArguments: 1,
};

/** The commands, in the order of the help text. */
const COMMANDS: readonly (readonly [CommandSpec, Run])[] = [
  [SERVE, serve],
  ...DEVICE_TYPES.map((type): [CommandSpec, Run] => [
    programSpec(type),
    (args) => runProgram(type, args),
  ]),
  [CTL, ctl],
  [OPTIONS, options],
  [VERSION_COMMAND, version],
  [HELP, help],
];

/**
 * Runs the command.
 *
 * @param args the command line, without the program
 * @returns the exit code: 0 after success or a clean stop, 1 after a failure,
 * 2 when the command line or the config file is wrong
 */
export async function main(args: readonly string[]): Promise<number> {
  try {
    return await dispatch(args);
  } catch (error) {
    const kind = (error as { kind?: unknown } | null)?.kind;
    const expected = error instanceof HostError || typeof kind === "string" ||
      error instanceof Deno.errors.NotCapable ||
      (error instanceof Error && error.name === "RpcError");
    // Whatever is not expected is a bug: its stack is worth more than brevity.
    if (expected) complain(messageOf(error), args);
    else console.error(error);
    return kind === "usage" ? 2 : 1;
  }
}

/** Tells of an error, in the form that the log would have. */
function complain(message: string, args: readonly string[]): void {
  if (!args.includes("--log-format=json")) {
    console.error(`${PROGRAM}: ${message}`);
    return;
  }
  new Logger({ format: "json" }).error(message);
}

function dispatch(
  [name, ...args]: readonly string[],
): Promise<number> | number {
  if (name === undefined) {
    console.error(overview());
    return 2;
  }
  if (name === "--help" || name === "-h") return help(args);
  if (name === "--version") return version(args);
  const found = COMMANDS.find(([spec]) => spec.name === name);
  if (found !== undefined) return found[1](args);
  throw unknownCommand(name);
}

function unknownCommand(name: string): HostError {
  if (name.startsWith("-")) {
    const flags = ["--help", "--version"];
    const hint = didYouMean(name, flags) || `: one of ${flags.join(", ")}`;
    return new HostError("usage", `There is no option ${name}${hint}`);
  }
  const names = COMMANDS.map(([spec]) => spec.name);
  const hint = didYouMean(name, names) || `: one of ${names.join(", ")}`;
  return new HostError("usage", `There is no command "${name}"${hint}`);
}

function overview(): string {
  const rows = COMMANDS.map(([{ name, summary }]) =>
    `  ${name.padEnd(9)}${summary}`
  );
  return [
    `Usage: ${PROGRAM} COMMAND [ARGUMENT]…`,
    "",
    ...rows,
    "",
    `"${PROGRAM} COMMAND --help" tells more.`,
  ].join("\n");
}

function help(args: readonly string[]): number {
  const [name] = parseCommand(HELP, args).arguments;
  const found = COMMANDS.find(([spec]) => spec.name === name);
  if (name !== undefined && found === undefined) throw unknownCommand(name);
  print(found === undefined ? overview() : commandHelp(found[0]));
  return 0;
}

function version(args: readonly string[]): number {
  const { help } = parseCommand(VERSION_COMMAND, args);
  const { deno, v8 } = Deno.version;
  print(
    help
      ? commandHelp(VERSION_COMMAND)
      : `${PROGRAM} ${VERSION} (deno ${deno}, v8 ${v8})`,
  );
  return 0;
}

function options(args: readonly string[]): number {
  const { help, values } = parseCommand(OPTIONS, args);
  if (help) {
    print(commandHelp(OPTIONS));
  } else if (values.markdown === true) {
    print(markdownPage(COMMANDS.map(([spec]) => spec)));
  } else {
    print(deviceHelp().join("\n"));
  }
  return 0;
}
