import { assertEquals } from "@std/assert";
import { readReport } from "./junit.ts";

/** A report as `deno test` writes it. */
const report = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="deno test" tests="9" failures="3" errors="0" time="0.013">
    <testsuite name="./a_test.ts" tests="9" disabled="2" errors="0" failures="3">
        <testcase name="passes" classname="./a_test.ts" time="0.000" line="1" col="6">
        </testcase>
        <testcase name="boots [skipped: needs &lt;x&gt; &amp; &quot;y&quot; &#39;z&#x27;]" classname="./a_test.ts" time="0.000" line="2" col="6">
            <skipped/>
        </testcase>
        <testcase name="steps" classname="./a_test.ts" time="0.002" line="3" col="6">
        </testcase>
        <testcase name="fails" classname="./a_test.ts" time="0.001" line="8" col="6">
            <failure message="Uncaught Error: &lt;skipped/&gt;">Error: a
b</failure>
        </testcase>
        <testcase name="step fails" classname="./a_test.ts" time="0.001" line="9" col="6">
            <failure message="1 test step failed">1 test step failed.</failure>
        </testcase>
        <testcase name="steps &gt; one" classname="./a_test.ts" time="0.000" line="4" col="11">
        </testcase>
        <testcase name="steps &gt; two" classname="./a_test.ts" time="0.000" line="5" col="11">
            <skipped/>
        </testcase>
        <testcase name="steps &gt; three" classname="./a_test.ts" time="0.001" line="6" col="11">
        </testcase>
        <testcase name="steps &gt; three &gt; deep" classname="./a_test.ts" time="0.001" line="6" col="48">
        </testcase>
        <testcase name="step fails &gt; x" classname="./a_test.ts" time="0.000" line="9" col="48">
            <failure message="Uncaught Error: q">Error: q</failure>
        </testcase>
    </testsuite>
    <testsuite name="./b_test.ts" tests="1" disabled="0" errors="0" failures="0">
        <testcase name="steps" classname="./b_test.ts" time="0.000" line="1" col="6"/>
        <testcase name="after" classname="./b_test.ts" time="0.000" line="2" col="6">
        </testcase>
        <testcase name="filtered out" classname="./b_test.ts" line="3" col="6">
            <skipped/>
        </testcase>
    </testsuite>
</testsuites>
`;

Deno.test("readReport() counts tests, and steps instead of their test", () => {
  assertEquals(readReport(report), {
    // passes; steps > one and > three > deep; steps and after of the other.
    passed: 5,
    failed: 2,
    skipped: 2,
    skips: [
      { name: "boots", reason: `needs <x> & "y" 'z'` },
      { name: "steps > two", reason: undefined },
    ],
    failures: ["fails (a_test.ts)", "step fails > x (a_test.ts)"],
  });
});

Deno.test("readReport() counts a test that fails although its steps hold", () => {
  const testcase = (name: string, body = "") =>
    `<testcase name="${name}" classname="./a_test.ts">${body}</testcase>`;
  const text = testcase("a", `<failure message="m">m</failure>`) +
    testcase("a &gt; b");
  const { passed, failed, failures } = readReport(text);
  assertEquals([passed, failed, failures], [1, 1, ["a (a_test.ts)"]]);
});

Deno.test("readReport() finds nothing in an empty report", () => {
  const { passed, failed, skipped } = readReport("<testsuites></testsuites>");
  assertEquals([passed, failed, skipped], [0, 0, 0]);
});
