/**
 * The options of a memory balloon.
 *
 * @module
 */

import { featureMask } from "../../virtqueue/constants.ts";
import type { OptionSpec } from "../option_schema.ts";
import {
  BALLOON_PAGE_SIZE,
  VIRTIO_BALLOON_F_DEFLATE_ON_OOM,
  VIRTIO_BALLOON_F_MUST_TELL_HOST,
  VIRTIO_BALLOON_F_PAGE_POISON,
  VIRTIO_BALLOON_F_PAGE_REPORTING,
  VIRTIO_BALLOON_F_STATS_VQ,
} from "./protocol.ts";

/** Largest balloon: 2^32 - 1 pages. */
export const MAX_BALLOON_SIZE: number = (2 ** 32 - 1) * BALLOON_PAGE_SIZE;

/** What a balloon is configured with. JSON values only. */
export interface BalloonOptions {
  /** Bytes that the guest is asked to give up from the start (default 0). */
  readonly size?: number;
  /** Seconds between two questions for statistics; 0: only when asked (default 10). */
  readonly statsInterval?: number;
  /** Offer STATS_VQ (default true). */
  readonly stats?: boolean;
  /** Offer MUST_TELL_HOST (default true). */
  readonly mustTellHost?: boolean;
  /** Offer DEFLATE_ON_OOM (default true). */
  readonly deflateOnOom?: boolean;
  /** Offer PAGE_REPORTING (default true). */
  readonly pageReporting?: boolean;
  /** Offer PAGE_POISON (default true). */
  readonly pagePoison?: boolean;
}

/** Options as the device uses them: checked and complete. */
export interface ResolvedBalloonOptions {
  /** Pages that the guest is asked to give up from the start. */
  readonly pages: number;
  /** Seconds between two questions for statistics; 0: only when asked. */
  readonly statsInterval: number;
  /** The feature bits to offer, as a mask. */
  readonly features: bigint;
}

/** The schema of the options, for parsers, help texts and reference pages. */
export const BALLOON_OPTIONS: readonly OptionSpec[] = [
  {
    name: "size",
    type: "size",
    minimum: 0,
    maximum: MAX_BALLOON_SIZE,
    default: 0,
    help: "memory that the guest is asked to give up from the start",
  },
  {
    name: "stats-interval",
    type: "integer",
    minimum: 0,
    maximum: 86_400,
    default: 10,
    help: "seconds between two questions for statistics; 0: only when asked",
  },
  {
    name: "stats",
    type: "flag",
    default: true,
    help: "let the guest tell statistics of its memory",
  },
  {
    name: "page-reporting",
    type: "flag",
    default: true,
    help: "let the guest report free pages, which go back to the host",
  },
  {
    name: "page-poison",
    type: "flag",
    default: true,
    help: "let the guest say what it fills free pages with",
  },
  {
    name: "deflate-on-oom",
    type: "flag",
    default: true,
    help: "let the guest take memory back before it kills processes",
  },
  {
    name: "must-tell-host",
    type: "flag",
    default: true,
    help: "have the guest tell before it uses pages from the balloon",
  },
];

/** Options of a balloon that cannot be. */
export class BalloonOptionError extends Error {
  /** Stable reason. */
  readonly kind = "usage";
  /** Name of the option. */
  readonly option: string;

  /** Makes an error about an option. */
  constructor(option: string, value: unknown, right: string) {
    super(`Cannot use ${option}=${String(value)}: ${right}`);
    this.name = "BalloonOptionError";
    this.option = option;
  }
}

type Given = Readonly<Record<string, unknown>>;

function flag(options: Given, key: string, option: string): boolean {
  const value = options[key] ?? true;
  if (typeof value === "boolean") return value;
  throw new BalloonOptionError(option, value, "it is on or off");
}

function integer(options: Given, key: string, option: string): number {
  const spec = BALLOON_OPTIONS.find(({ name }) => name === option)!;
  const value = options[key] ?? spec.default;
  const minimum = spec.minimum!, maximum = spec.maximum!;
  if (
    typeof value === "number" && Number.isInteger(value) &&
    value >= minimum && value <= maximum
  ) return value;
  const right = `it is an integer from ${minimum} to ${maximum}`;
  throw new BalloonOptionError(option, value, right);
}

/**
 * Checks options and fills in defaults.
 *
 * @throws {BalloonOptionError} when a value is not what the option takes
 *
 * @example Usage
 * ```ts
 * import { resolveBalloonOptions } from "./options.ts";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(resolveBalloonOptions({ size: 2 ** 20 }).pages, 256);
 * ```
 */
export function resolveBalloonOptions(options: Given): ResolvedBalloonOptions {
  const size = integer(options, "size", "size");
  if (size % BALLOON_PAGE_SIZE !== 0) {
    throw new BalloonOptionError("size", size, "it is a multiple of 4096");
  }
  const bits: number[] = [];
  const offer = (key: string, option: string, bit: number): void => {
    if (flag(options, key, option)) bits.push(bit);
  };
  offer("stats", "stats", VIRTIO_BALLOON_F_STATS_VQ);
  offer("pageReporting", "page-reporting", VIRTIO_BALLOON_F_PAGE_REPORTING);
  offer("pagePoison", "page-poison", VIRTIO_BALLOON_F_PAGE_POISON);
  offer("deflateOnOom", "deflate-on-oom", VIRTIO_BALLOON_F_DEFLATE_ON_OOM);
  offer("mustTellHost", "must-tell-host", VIRTIO_BALLOON_F_MUST_TELL_HOST);
  return {
    pages: size / BALLOON_PAGE_SIZE,
    statsInterval: integer(options, "statsInterval", "stats-interval"),
    features: featureMask(...bits),
  };
}
