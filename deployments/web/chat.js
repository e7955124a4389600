// The page around the chat: what is up, the language, the key. The chat itself is <raydesk-chat>, from /widget.js.

import { listTiers, PAGE_WORDS } from "./page_words.js";

const POLL_MS = 3000;
const POLL_SLOWLY_MS = 20000; // while a tier is down, which may last
const KEY = "raydesk.key";
const LANGUAGE = "raydesk.language";
const $ = (id) => document.getElementById(id);

const chat = $("chat");
let words = PAGE_WORDS[firstLanguage()];
let readiness = null; // what /readyz said last

function firstLanguage() {
  const kept = localStorage.getItem(LANGUAGE);
  if (kept in PAGE_WORDS) return kept;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

// --- the key ---

function askForKey() {
  sessionStorage.removeItem(KEY);
  $("key-form").hidden = false;
  $("key").focus();
}

function useKey(event) {
  event.preventDefault();
  const key = $("key").value.trim();
  sessionStorage.setItem(KEY, key);
  chat.setAttribute("key", key);
  $("key").value = "";
  $("key-form").hidden = true;
  chat.retry();
}

// --- words ---

function speak() {
  document.documentElement.lang = words.lang;
  for (const node of document.querySelectorAll("[data-words]")) node.textContent = words[node.dataset.words];
  $("language").textContent = words.otherLanguage;
  $("language").setAttribute("aria-label", words.otherLanguageLabel);
  $("language").lang = words.lang === "en" ? "zh-CN" : "en";
  chat.setAttribute("lang", words.lang);
  chat.setAttribute("starters", words.starters.join("\n"));
  showReadiness();
}

function changeLanguage() {
  const language = words.lang === "en" ? "zh" : "en";
  localStorage.setItem(LANGUAGE, language);
  words = PAGE_WORDS[language];
  speak();
}

// --- what is up ---

async function poll() {
  try {
    const response = await fetch("/readyz");
    readiness = await response.json();
  } catch {
    readiness = { unreachable: true }; // also said on the page; the next poll may find it back
  }
  showReadiness();
  const { ready, tiers = [] } = readiness;
  if (!ready || tiers.some(({ state }) => state === "starting")) setTimeout(poll, POLL_MS);
  else if (tiers.some(({ state }) => state === "down")) setTimeout(poll, POLL_SLOWLY_MS);
}

function showReadiness() {
  const [state, notice] = readinessWords();
  $("status").dataset.state = state;
  $("status-text").textContent = words.status[state];
  $("notice").textContent = notice;
  $("notice").hidden = !notice;
}

function readinessWords() {
  if (!readiness) return ["waiting", ""];
  if (readiness.unreachable) return ["away", words.unreachable];
  if (!readiness.ready) return ["starting", words.roomsStarting];
  const of = (wanted) => readiness.tiers.filter(({ state }) => state === wanted).map(({ name }) => name);
  if (of("starting").length) return ["partial", words.modelStarting(listTiers(words, of("starting")))];
  if (of("down").length) return ["partial", words.modelDown(listTiers(words, of("down")))];
  return ["ready", ""];
}

// --- start ---

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") chat.stop();
});
chat.addEventListener("raydesk-error", ({ detail }) => {
  if (detail.status === 401) askForKey();
});
$("language").addEventListener("click", changeLanguage);
$("key-form").addEventListener("submit", useKey);
if (sessionStorage.getItem(KEY)) chat.setAttribute("key", sessionStorage.getItem(KEY));
speak();
poll();
