/** Prototypes whose instances are equal when their text is. */
const textPrototypes: ReadonlySet<unknown> = new Set([
  RegExp.prototype,
  URL.prototype,
  URLSearchParams.prototype,
  Intl.Locale.prototype,
  ...temporalPrototypes(),
]);

function temporalPrototypes(): unknown[] {
  const { Temporal } = globalThis as { Temporal?: Record<string, unknown> };
  if (Temporal === undefined) return [];
  return Object.getOwnPropertyNames(Temporal)
    .map((name) => Temporal[name])
    .filter((member) => typeof member === "function")
    .map((member) => member.prototype);
}

/** `===`, except that NaN is itself. Zeros of both signs are the same. */
function sameValueZero(a: unknown, b: unknown): boolean {
  return a === b || (a !== a && b !== b);
}

function isPrimitive(value: unknown): boolean {
  return value === null ||
    (typeof value !== "object" && typeof value !== "function");
}

/** An object without a prototype counts as a plain one. */
function prototypeOf(value: object): unknown {
  return Object.getPrototypeOf(value) ?? Object.prototype;
}

function elementsEqual(
  a: ArrayLike<unknown>,
  b: ArrayLike<unknown>,
): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) {
    if (!sameValueZero(a[i], b[i])) return false;
  }
  return true;
}

type Elements = ArrayLike<unknown>;

/** The elements of a typed array, or of the bytes of a buffer. */
function elementsOf(value: object): Elements | undefined {
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) {
    return value as unknown as Elements;
  }
  if (value instanceof ArrayBuffer || value instanceof SharedArrayBuffer) {
    return new Uint8Array(value);
  }
  return undefined;
}

/** Own and inherited names, down to the prototype of plain objects. */
function allKeys(value: object, into: Set<PropertyKey>): void {
  let level: object | null = value;
  while (
    level !== null && level !== Object.prototype && level !== Array.prototype
  ) {
    for (const key of Reflect.ownKeys(level)) into.add(key);
    level = Object.getPrototypeOf(level);
  }
}

function enumerableKeys(value: object, into: Set<PropertyKey>): void {
  for (const key of Reflect.ownKeys(value)) {
    if (Object.prototype.propertyIsEnumerable.call(value, key)) into.add(key);
  }
}

type Pairs = Map<object, object>;

function objectsEqual(a: object, b: object, pairs: Pairs): boolean {
  if (a instanceof Date && b instanceof Date) {
    return sameValueZero(a.getTime(), b.getTime());
  }
  const prototype = prototypeOf(a);
  if (prototype !== prototypeOf(b)) return false;
  const elements = elementsOf(a);
  if (elements !== undefined) {
    return elementsEqual(elements, elementsOf(b) ?? []);
  }
  if (a instanceof WeakMap) {
    throw new TypeError("Cannot compare WeakMap instances");
  }
  if (a instanceof WeakSet) {
    throw new TypeError("Cannot compare WeakSet instances");
  }
  if (a instanceof WeakRef) {
    return valuesEqual(a.deref(), (b as WeakRef<object>).deref(), pairs);
  }
  // A pair met again on the way down a cycle differs nowhere else.
  if (pairs.get(a) === b) return true;
  if (Object.keys(a).length !== Object.keys(b).length) return false;
  pairs.set(a, b);
  if (a instanceof Set && b instanceof Set) {
    return entriesEqual(a, b, pairs, () => true);
  }
  if (a instanceof Map && b instanceof Map) {
    return entriesEqual(
      a,
      b,
      pairs,
      (keyA, keyB) => valuesEqual(a.get(keyA), b.get(keyB), pairs),
    );
  }
  if (textPrototypes.has(prototype)) return String(a) === String(b);
  return propertiesEqual(a, b, pairs);
}

interface Keyed {
  readonly size: number;
  keys(): Iterable<unknown>;
  has(key: unknown): boolean;
}

/** Each entry of `a` has one in `b`; primitive keys need no search. */
function entriesEqual(
  a: Keyed,
  b: Keyed,
  pairs: Pairs,
  sameAt: (keyA: unknown, keyB: unknown) => boolean,
): boolean {
  if (a.size !== b.size) return false;
  const keysA = [...a.keys()];
  if (keysA.every(isPrimitive)) {
    return keysA.every((key) => b.has(key) && sameAt(key, key));
  }
  const keysB = [...b.keys()];
  return keysA.every((keyA) =>
    keysB.some((keyB) => valuesEqual(keyA, keyB, pairs) && sameAt(keyA, keyB))
  );
}

function propertiesEqual(a: object, b: object, pairs: Pairs): boolean {
  const prototype = prototypeOf(a);
  const basic = prototype === Object.prototype || prototype === Array.prototype;
  const collect = basic ? enumerableKeys : allKeys;
  const keys = new Set<PropertyKey>();
  collect(a, keys);
  collect(b, keys);
  const left = a as Record<PropertyKey, unknown>;
  const right = b as Record<PropertyKey, unknown>;
  for (const key of keys) {
    if ((key in a) !== (key in b)) return false;
    if (!valuesEqual(left[key], right[key], pairs)) return false;
  }
  return true;
}

function valuesEqual(a: unknown, b: unknown, pairs: Pairs): boolean {
  if (sameValueZero(a, b)) return true;
  if (
    typeof a !== "object" || typeof b !== "object" || a === null || b === null
  ) return false;
  return objectsEqual(a, b, pairs);
}

/**
 * Whether two values have the same structure: prototypes, own enumerable
 * properties (a missing one is not an undefined one), elements of typed
 * arrays, entries of maps and sets in any order, times of dates. NaN equals
 * NaN, 0 equals -0. Cycles are followed once.
 *
 * @throws {TypeError} When both are a WeakMap or a WeakSet, which cannot be
 * listed.
 *
 * @example
 * ```ts
 * import { assert, equal } from "@std/assert";
 *
 * assert(equal({ a: [1] }, { a: [1] }));
 * assert(!equal({ a: undefined }, {}));
 * ```
 */
export function equal(a: unknown, b: unknown): boolean {
  return valuesEqual(a, b, new Map());
}
