import { assertEquals } from "./equals.ts";

type Loose = Record<PropertyKey, unknown>;

function isObject(value: unknown): value is Loose {
  return typeof value === "object" && value !== null;
}

/** Cuts values down to the parts that a pattern names. */
class Cutter {
  /** Objects on the way down, each with the pattern it is cut by. */
  readonly #met = new Map<object, object>();

  cut(value: unknown, pattern: unknown): unknown {
    if (value instanceof RegExp || value instanceof Date) return value;
    if (Array.isArray(value) && Array.isArray(pattern)) {
      return this.#cutArray(value, pattern);
    }
    if (!isObject(value) || !isObject(pattern)) return value;
    if (value instanceof Map && pattern instanceof Map) {
      return this.#cutMap(value, pattern);
    }
    if (value instanceof Set && pattern instanceof Set) {
      return value.intersection(pattern);
    }
    return this.cutObject(value, pattern);
  }

  /** A plain object: the class of a value does not count. */
  cutObject(value: Loose, pattern: Loose): Loose {
    if (!isObject(value)) {
      const kind = value === null ? "null" : `type ${typeof value}`;
      throw new TypeError(`Cannot assertObjectMatch ${kind}`);
    }
    if (this.#isMet(value, pattern)) return value;
    const wanted = new Set(Reflect.ownKeys(pattern));
    const keys = Reflect.ownKeys(value);
    const shared = keys.filter((key) => wanted.has(key));
    // With nothing in common, the whole value makes the better message.
    const whole = shared.length === 0 && wanted.size > 0;
    const result: Loose = {};
    for (const key of whole ? keys : shared) {
      Object.defineProperty(result, key, {
        value: whole ? value[key] : this.cut(value[key], pattern[key]),
        configurable: true,
        enumerable: true,
        writable: true,
      });
    }
    return result;
  }

  #cutArray(value: unknown[], pattern: unknown[]): unknown[] {
    if (this.#isMet(value, pattern)) return value;
    return value.slice(0, pattern.length)
      .map((element, at) => this.cut(element, pattern[at]));
  }

  #cutMap(
    value: Map<unknown, unknown>,
    pattern: Map<unknown, unknown>,
  ): Map<unknown, unknown> {
    const result = new Map<unknown, unknown>();
    for (const [key, entry] of value) {
      if (!pattern.has(key)) continue;
      const part = pattern.get(key);
      result.set(
        key,
        isObject(entry) && isObject(part) ? this.cutObject(entry, part) : entry,
      );
    }
    return result;
  }

  #isMet(value: object, pattern: object): boolean {
    const met = this.#met.get(value) === pattern;
    this.#met.set(value, pattern);
    return met;
  }
}

/**
 * Asserts that an object has the properties of another, at every level; it
 * may have more. Arrays match a head, maps and sets a part. Classes do not
 * count.
 *
 * @param actual The object found.
 * @param expected The properties it must have.
 * @param msg Words to add to the message.
 * @throws {AssertionError} When one is missing or different.
 * @throws {TypeError} When `actual` is no object.
 */
export function assertObjectMatch(
  // deno-lint-ignore no-explicit-any
  actual: Record<PropertyKey, any>,
  expected: Record<PropertyKey, unknown>,
  msg?: string,
): void {
  assertEquals(
    new Cutter().cutObject(actual, expected),
    new Cutter().cutObject(expected, expected),
    msg,
  );
}
