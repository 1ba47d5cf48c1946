"use strict";
// Asks for this same address again, with the token, and puts what comes in the place of this page.
(() => {
  const KEPT = "tollgate-admin-token";
  const said = document.getElementById("said"), field = document.getElementById("token");

  const show = async (answer) => {
    const text = await answer.text();
    if (!(answer.headers.get("content-type") ?? "").startsWith("text/html")) {
      const plain = document.createElement("pre");
      plain.textContent = text;
      document.body.replaceChildren(plain);
      return;
    }
    const page = new DOMParser().parseFromString(text, "text/html");
    document.replaceChild(document.adoptNode(page.documentElement), document.documentElement);
    // Scripts of a parsed page do not run; copies of them do, if the policy knows them.
    for (const script of document.querySelectorAll("script")) {
      const copy = document.createElement("script");
      copy.textContent = script.textContent;
      script.replaceWith(copy);
    }
  };
  const ask = async (token) => {
    const answer = await fetch(location.href, {
      cache: "no-store", headers: { Authorization: "Bearer " + token, Accept: "text/html, */*" },
    });
    if (answer.status === 401) {
      sessionStorage.removeItem(KEPT);
      said.textContent = "That is not the token.";
      return;
    }
    sessionStorage.setItem(KEPT, token);
    await show(answer);
  };
  const go = () => ask(field.value.trim()).catch((error) => { said.textContent = String(error); });

  document.getElementById("go").addEventListener("click", go);
  field.addEventListener("keydown", (pressed) => { if (pressed.key === "Enter") go(); });
  const kept = sessionStorage.getItem(KEPT);
  if (kept) ask(kept).catch((error) => { said.textContent = String(error); });
})();
