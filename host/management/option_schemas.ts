/**
 * From the options of a device to the parameters of a management method: the
 * same names, values and words of help.
 *
 * @module
 */

import { z } from "zod";
import { keyOf } from "../../backends/option_reader.ts";
import type { OptionSpec } from "../../backends/option_schema.ts";

/**
 * A schema for each option, by its name in camelCase. None has to be given, and
 * none is filled in: a default is told of, and the device knows it.
 *
 * @example Usage
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { z } from "zod";
 * import { optionSchemas } from "./option_schemas.ts";
 *
 * const schema = z.strictObject(optionSchemas([
 *   { name: "block-size", type: "choice", choices: ["512", "4096"], help: "" },
 * ]));
 * assertEquals(schema.parse({ blockSize: 512 }), { blockSize: 512 });
 * ```
 */
export function optionSchemas(
  options: readonly OptionSpec[],
): Record<string, z.ZodType> {
  return Object.fromEntries(options.map((spec) => {
    const { name, help, default: usual } = spec;
    const meta = {
      description: help,
      ...(usual === undefined ? {} : { default: usual }),
    };
    return [keyOf(name), z.optional(schemaOf(spec)).meta(meta)];
  }));
}

function schemaOf(spec: OptionSpec): z.ZodType {
  const { minimum = 0, maximum = Number.MAX_SAFE_INTEGER } = spec;
  switch (spec.type) {
    case "flag":
      return z.boolean();
    case "integer":
    case "size":
      return z.int().min(minimum).max(maximum);
    case "choice":
      return choiceOf(spec.choices ?? []);
    case "string":
      return z.string().max(spec.maximumLength ?? 4096);
    case "path":
      return z.string();
  }
}

/** Numbers may be written as such. */
function choiceOf(choices: readonly string[]): z.ZodType {
  const words = z.enum(choices);
  return choices.every((choice) => /^\d+$/.test(choice))
    ? z.union([words, z.literal(choices.map(Number))])
    : words;
}
