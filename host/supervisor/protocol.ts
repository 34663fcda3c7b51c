/**
 * What passes between the supervisor and a device process: descriptors, methods
 * and notifications.
 *
 * | from       | method     | means                                              |
 * | ---------- | ---------- | -------------------------------------------------- |
 * | supervisor | `start`    | serve these devices; the answer has their status   |
 * | supervisor | `status`   | facts and counters of a device                     |
 * | supervisor | `command`  | a management command of a device                   |
 * | supervisor | `stop`     | (notification) drain and end                       |
 * | process    | `making`   | (notification) what its start has come to          |
 * | process    | `finished` | (notification) a device has nothing left to serve  |
 * | process    | `failed`   | (notification) a device failed, the process ends   |
 * | process    | `keep`     | what the device's successor is told                |
 *
 * The end of the channel means `stop` to the process. To the supervisor the end
 * of the process alone means anything.
 *
 * @module
 */

import type { DeviceSpec } from "../device_host.ts";
import type { LogFormat, LogLevel } from "../log.ts";

/** The process's descriptor of the control channel. */
export const CONTROL_FD = 3;
/** Its descriptor of the log: the supervisor's stderr. Its own one is a pipe. */
export const LOG_FD = 4;
/**
 * Its end of a pipe that lasts as long as anything of the process does: requests
 * that the kernel has not ended yet, too. Each of its rings has it registered.
 */
export const REMAINS_FD = 5;
/**
 * Its descriptor of the first device's socket; the others follow, and then those
 * that devices have besides: the memory of their rings, and what options name.
 */
export const FIRST_SOCKET_FD = 6;

/** Parameters of `start`. */
export interface StartParams {
  /** Version of the program, which has to be the same on both sides. */
  readonly version: string;
  /** Least severe level that is logged. */
  readonly logLevel: LogLevel;
  /** How log lines look. */
  readonly logFormat: LogFormat;
  /** How long to drain before giving up, in ms. */
  readonly drainLimit: number;
  /** The devices; each has the `fd` of its socket, and `keptFd`. */
  readonly devices: readonly DeviceSpec[];
}

/** Result of `start`: the status of each device. */
export type StartResult = readonly Record<string, unknown>[];

/** Parameters of `status`. */
export interface DeviceParams {
  /** Name of the device. */
  readonly device: string;
}

/** Parameters of `making`. */
export interface MakingParams extends DeviceParams {
  /** What the device waits for, as far as it said so. */
  readonly waitsFor?: string;
}

/** Parameters of `finished`. */
export interface FinishedParams extends DeviceParams {
  /** The front-end of a connected socket broke the protocol. */
  readonly dropped: boolean;
}

/** Parameters of `command`. */
export interface CommandParams extends DeviceParams {
  /** Name of the command. */
  readonly name: string;
  /** Its parameters. */
  readonly params: Readonly<Record<string, unknown>>;
}

/** Parameters of `keep`. */
export interface KeepParams extends DeviceParams {
  /** A JSON value. */
  readonly value: unknown;
}

/** Parameters of `failed`. */
export interface FailedParams extends DeviceParams {
  /** Why. */
  readonly message: string;
}
