/**
 * The settings of `serve` that do not belong to one device, on the command line
 * and in the config file.
 *
 * @module
 */

import type { OptionSpec, OptionValues } from "../../backends/option_schema.ts";
import {
  LOG_FORMATS,
  LOG_LEVELS,
  type LogFormat,
  type LogLevel,
} from "../log.ts";
import { DATA_DIRECTORY, MAXIMUM_SOCKET_PATH } from "./device_specs.ts";

/** The options of the log. */
export const LOG_OPTIONS: readonly OptionSpec[] = [
  {
    name: "log-level",
    type: "choice",
    choices: LOG_LEVELS,
    default: "info",
    help: "least severe messages that are logged",
  },
  {
    name: "log-format",
    type: "choice",
    choices: LOG_FORMATS,
    default: "text",
    help: "how log lines look",
  },
];

/** Where the management socket is. */
export const MANAGEMENT_OPTION: OptionSpec = {
  name: "management",
  type: "path",
  maximumLength: MAXIMUM_SOCKET_PATH,
  default: `${DATA_DIRECTORY}/vhostd.sock`,
  help: "management socket; off: none",
};

/** Whether devices are served by processes of their own. */
export const SUPERVISE_OPTION: OptionSpec = {
  name: "supervise",
  type: "choice",
  choices: ["on", "off"],
  default: "on",
  help:
    "serve devices in processes of their own, and start those that die again; off: all in this process, which ends when one fails",
};

/** All settings. */
export const SETTINGS: readonly OptionSpec[] = [
  MANAGEMENT_OPTION,
  SUPERVISE_OPTION,
  ...LOG_OPTIONS,
];

/** Settings with defaults. */
export interface Settings {
  /** Path of the management socket, or `null`. */
  readonly management: string | null;
  /** Serve devices in processes of their own. */
  readonly supervise: boolean;
  /** Least severe level that is logged. */
  readonly logLevel: LogLevel;
  /** How log lines look. */
  readonly logFormat: LogFormat;
}

/** Settings from checked values; the later ones win. */
export function settingsOf(...values: readonly OptionValues[]): Settings {
  const { management, supervise, logLevel, logFormat } = Object.assign(
    {
      management: MANAGEMENT_OPTION.default,
      supervise: SUPERVISE_OPTION.default,
      logLevel: "info",
      logFormat: "text",
    },
    ...values,
  );
  return {
    management: management === "off" ? null : management,
    supervise: supervise === "on",
    logLevel,
    logFormat,
  };
}
