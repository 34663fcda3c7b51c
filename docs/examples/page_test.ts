import { assertStringIncludes } from "@std/assert";

for (const name of ["entropy.ts", "entropy_test.ts"]) {
  Deno.test(`the page on writing a device shows ${name} as it is`, () => {
    const page = Deno.readTextFileSync(
      new URL("../writing-a-device.md", import.meta.url),
    );
    const example = Deno.readTextFileSync(new URL(name, import.meta.url));
    assertStringIncludes(page, "```ts\n" + example + "```");
  });
}
