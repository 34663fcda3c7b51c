import { assertEquals, assertThrows } from "@std/assert";
import { HostError } from "./error.ts";
import { requireRuntime } from "./requirements.ts";

Deno.test("requireRuntime() accepts what the tests run on", () => {
  requireRuntime();
});

Deno.test("requireRuntime() compares versions by their numbers", () => {
  for (const deno of ["2.9.0", "2.9.6", "2.10.0", "3.0.0", "2.9.6+abc"]) {
    requireRuntime(deno, "6.1.0");
  }
  for (const kernel of ["5.10.0", "5.10-rc1", "5.15.0-89-generic", "6.1"]) {
    requireRuntime("2.9.6", kernel);
  }
});

Deno.test("requireRuntime() says what is too old, and what is needed", () => {
  const cases: [string, string, string][] = [
    ["2.8.3", "6.1", "Cannot run on Deno 2.8.3: Deno 2.9 or later is needed"],
    ["1.46.0", "6.1", "Cannot run on Deno 1.46.0: Deno 2.9 or later is needed"],
    [
      "2.9.6",
      "5.4.0-1",
      "Cannot run on Linux 5.4.0-1: Linux 5.10 or later is needed",
    ],
    [
      "2.9.6",
      "4.19.2",
      "Cannot run on Linux 4.19.2: Linux 5.10 or later is needed",
    ],
  ];
  for (const [deno, kernel, expected] of cases) {
    const error = assertThrows(() => requireRuntime(deno, kernel), HostError);
    assertEquals([error.kind, error.message], ["start", expected]);
  }
});
