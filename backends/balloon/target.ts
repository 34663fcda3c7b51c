/**
 * How much memory a guest is to have: what people write.
 *
 * @module
 */

const UNITS: Readonly<Record<string, number>> = {
  "": 1,
  K: 2 ** 10,
  M: 2 ** 20,
  G: 2 ** 30,
  T: 2 ** 40,
};

/** A target that cannot be. */
export class BalloonTargetError extends Error {
  /** Stable reason. */
  readonly kind = "usage";

  /** Makes an error about a target. */
  constructor(value: unknown, reason: string) {
    super(`Cannot set the guest's memory to "${String(value)}": ${reason}`);
    this.name = "BalloonTargetError";
  }
}

/**
 * Finds out how much memory a guest is to have.
 *
 * @param value bytes, or text: `1G`, `50%` of all its memory, or with a sign a
 * change of what it is to have now (`-25%`, `+512M`)
 * @param memory all memory of the guest, in bytes
 * @param current what it is to have now, in bytes
 * @returns bytes, more than 0 and at most `memory`; a change that would leave
 * these bounds ends at the upper one
 * @throws {BalloonTargetError} when the text is none of those, or asks for too
 * little or too much
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { parseTarget } from "./target.ts";
 *
 * const G = 2 ** 30;
 * assertEquals(parseTarget("1G", 4 * G, 4 * G), G);
 * assertEquals(parseTarget("-25%", 4 * G, 4 * G), 3 * G);
 * assertEquals(parseTarget("+2G", 4 * G, 3 * G), 4 * G);
 * ```
 */
export function parseTarget(
  value: unknown,
  memory: number,
  current: number,
): number {
  const text = typeof value === "number" ? String(value) : value;
  const match = typeof text === "string"
    ? /^([+-]?)(\d+(?:\.\d+)?)([KMGT]?|%)$/i.exec(text.trim())
    : null;
  if (match === null) {
    throw new BalloonTargetError(
      value,
      "give a size (1G), a share of its memory (50%), or a change (+512M, -25%)",
    );
  }
  const [, sign, number, unit] = match;
  const amount = Math.floor(
    unit === "%"
      ? memory * Number(number) / 100
      : Number(number) * UNITS[unit.toUpperCase()],
  );
  if (sign === "+") return Math.min(current + amount, memory);
  const wanted = sign === "-" ? current - amount : amount;
  if (wanted <= 0) throw new BalloonTargetError(value, "nothing would be left");
  if (wanted > memory) {
    throw new BalloonTargetError(value, `it has ${memory} bytes`);
  }
  return wanted;
}
