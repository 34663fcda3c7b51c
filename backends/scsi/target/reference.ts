/**
 * The reference page of the commands, made from their table.
 *
 * @module
 */

import {
  type CommandSpec,
  UNIT_ABSENT,
  UNIT_CDROM,
  UNIT_DISK,
  UNIT_WELL_KNOWN,
} from "./command.ts";
import { COMMANDS } from "./commands.ts";

function code(command: CommandSpec): string {
  const hex = (value: number) => value.toString(16).padStart(2, "0");
  const { opcode, serviceAction } = command;
  const action = serviceAction === undefined ? "" : `/${hex(serviceAction)}`;
  return `${hex(opcode)}h${action}`;
}

function kinds({ units }: CommandSpec): string {
  const names: string[] = [];
  if (units & UNIT_DISK) names.push("disk");
  if (units & UNIT_CDROM) names.push("CD-ROM");
  if (units & UNIT_WELL_KNOWN) names.push("well-known");
  if (units & UNIT_ABSENT) names.push("absent");
  return names.join(", ");
}

/**
 * The rows of the table of commands, in Markdown.
 *
 * @param implementation file that implements a command
 * @param tests file with the tests of a command
 */
export function commandRows(
  implementation: (command: CommandSpec) => string,
  tests: (command: CommandSpec) => string,
): string[][] {
  return COMMANDS.map((command) => [
    code(command),
    command.name,
    kinds(command),
    command.source,
    implementation(command),
    tests(command),
    tests(command),
    command.tool ?? "none",
  ]);
}
