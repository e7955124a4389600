// Every sentence of the page, in both languages. Functions take what changes.

const seconds = (ms) => (ms < 999.5 ? `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

export const WORDS = {
  en: {
    lang: "en",
    otherLanguage: "中文",
    otherLanguageLabel: "切换到中文",
    skip: "Skip to the question",
    newChat: "New chat",
    welcome: "How can we help?",
    welcomeText: "Answers come from our help centre, with their sources.",
    starters: [
      "How long do I have to return an item?",
      "How much does express delivery cost?",
      "Which payment methods do you accept?",
      "What does the warranty cover?",
    ],
    thread: "Conversation",
    questionLabel: "Your question",
    placeholder: "Ask a question",
    send: "Send",
    stop: "Stop the answer",
    smallPrint: "Answers can be wrong. Check the sources.",
    keyLabel: "This service needs an API key",
    keySave: "Use key",
    keyHint: "Kept in this tab only, until you close it.",
    you: "You",
    answer: "Answer",
    working: "Looking for an answer",
    retry: "Try again",
    requestId: "Request",
    sources: "Sources",
    page: (page) => `page ${page}`,
    next: "Suggested next messages",
    times: (first, total) => [`First word ${seconds(first)}`, `Total ${seconds(total)}`],
    age: (s) => `stored ${s < 60 ? "just now" : s < 3600 ? `${Math.round(s / 60)} min ago` : `${Math.round(s / 3600)} h ago`}`,
    paths: {
      exact_cache: ["Cache", "This question was answered before; the stored answer was given again."],
      semantic_cache: ["Cache", "A question with the same meaning was answered before; its stored answer was given again."],
      rule: ["Rule", "A preset answer of the support team."],
      faq: ["FAQ", "A curated answer, word for word."],
      clarify: ["Did you mean", "Several curated answers may fit; which one is for you to say."],
      passage: ["Passage", "Quoted from a help article; no model has written it."],
      small: ["Model", "Written by the small language model from the sources below."],
      large: ["Model", "Written by the large language model from the sources below."],
      cloud: ["Model", "Written by a hosted language model from the sources below."],
      abstain: ["No answer", "Nothing in the help centre answers this."],
      handoff: ["Hand-off", "This goes to a person."],
    },
    stopped: "Stopped.",
    cut: "This answer was cut at its length limit.",
    ungrounded: "Not every sentence here is backed by a source. Please check before you rely on it.",
    tierStarting: (tier) => `The ${tier} model was still starting, so the answer was made without it.`,
    tierAway: (tier) => `The ${tier} model was away, so the answer was made without it.`,
    cacheAway: "The answer cache was away; that only costs time.",
    intentsAway: "Intent recognition was away, so preset answers were skipped.",
    partAway: "A part of the service was away.",
    status: {
      waiting: "Connecting",
      ready: "Ready",
      starting: "Starting",
      partial: "Partly ready",
      away: "Not reachable",
    },
    modelStarting: (tiers) => `The ${tiers} model is still starting; rules, FAQ and cache answer.`,
    modelDown: (tiers) => `The ${tiers} model is away; rules, FAQ and cache answer.`,
    roomsStarting: "The service is starting. You can ask in a moment.",
    unreachable: "The service cannot be reached. This page keeps trying.",
    and: " and ",
    errors: {
      overloaded: "Many people are asking right now. Please try again in a moment.",
      deadline_exceeded: "The answer took too long. Please try again.",
      engine_died: "The model stopped while it was answering. Please ask again.",
      room_unavailable: "A part of the service is starting or away. Please try again in a moment.",
      dependency_failed: "A part of the service did not answer. Please try again in a moment.",
      authentication_failed: "A valid API key is needed.",
      permission_denied: "This is not allowed from here.",
      payload_too_large: "This message is too long.",
      unknown_collection: "There is no published help content yet.",
      internal_error: "Something went wrong on our side.",
      broken_off: "The connection broke off before the answer was complete.",
      network: "The service cannot be reached. Please check the connection.",
    },
  },

  zh: {
    lang: "zh-CN",
    otherLanguage: "English",
    otherLanguageLabel: "Switch to English",
    skip: "跳到提问框",
    newChat: "新对话",
    welcome: "有什么可以帮您？",
    welcomeText: "答案来自我们的帮助中心，并附上出处。",
    starters: ["收到商品后多少天内可以退货？", "加急配送需要多少钱？", "你们支持哪些付款方式？", "保修包括哪些内容？"],
    thread: "对话",
    questionLabel: "您的问题",
    placeholder: "请输入您的问题",
    send: "发送",
    stop: "停止回答",
    smallPrint: "答案可能有误，请核对出处。",
    keyLabel: "此服务需要 API 密钥",
    keySave: "使用密钥",
    keyHint: "仅保存在此标签页，关闭后即清除。",
    you: "您",
    answer: "回答",
    working: "正在查找答案",
    retry: "重试",
    requestId: "请求编号",
    sources: "出处",
    page: (page) => `第 ${page} 页`,
    next: "建议的下一步",
    times: (first, total) => [`首字 ${seconds(first)}`, `总计 ${seconds(total)}`],
    age: (s) => (s < 60 ? "刚刚存入" : s < 3600 ? `${Math.round(s / 60)} 分钟前存入` : `${Math.round(s / 3600)} 小时前存入`),
    paths: {
      exact_cache: ["缓存", "这个问题之前回答过，这里给出保存的答案。"],
      semantic_cache: ["缓存", "含义相同的问题之前回答过，这里给出保存的答案。"],
      rule: ["规则", "客服团队预设的回答。"],
      faq: ["常见问题", "人工整理的标准答案，逐字给出。"],
      clarify: ["请确认", "有几个标准答案都可能符合，请选择您想问的问题。"],
      passage: ["原文", "摘自帮助文章，并非模型撰写。"],
      small: ["模型", "由小型语言模型根据下列出处撰写。"],
      large: ["模型", "由大型语言模型根据下列出处撰写。"],
      cloud: ["模型", "由云端语言模型根据下列出处撰写。"],
      abstain: ["无答案", "帮助中心里没有这个问题的答案。"],
      handoff: ["转人工", "这个问题将由人工处理。"],
    },
    stopped: "已停止。",
    cut: "答案达到长度上限，已被截断。",
    ungrounded: "并非每句话都有出处，使用前请核对。",
    tierStarting: (tier) => `${tierName(tier)}仍在启动，本次回答没有使用它。`,
    tierAway: (tier) => `${tierName(tier)}暂不可用，本次回答没有使用它。`,
    cacheAway: "答案缓存暂不可用，只会慢一些。",
    intentsAway: "意图识别暂不可用，已跳过预设回答。",
    partAway: "服务的一部分暂不可用。",
    status: { waiting: "连接中", ready: "就绪", starting: "启动中", partial: "部分就绪", away: "无法连接" },
    modelStarting: (tiers) => `${tiers}仍在启动；规则、常见问题和缓存可以回答。`,
    modelDown: (tiers) => `${tiers}暂不可用；规则、常见问题和缓存可以回答。`,
    roomsStarting: "服务正在启动，请稍候再提问。",
    unreachable: "无法连接服务，页面会继续重试。",
    and: "和",
    errors: {
      overloaded: "当前咨询人数较多，请稍后再试。",
      deadline_exceeded: "回答超时，请再试一次。",
      engine_died: "模型在回答时中断，请重新提问。",
      room_unavailable: "服务的一部分正在启动或暂不可用，请稍后再试。",
      dependency_failed: "服务的一部分没有响应，请稍后再试。",
      authentication_failed: "需要有效的 API 密钥。",
      permission_denied: "此处不允许该操作。",
      payload_too_large: "消息太长。",
      unknown_collection: "尚未发布帮助内容。",
      internal_error: "我们这边出了问题。",
      broken_off: "连接中断，答案不完整。",
      network: "无法连接服务，请检查网络。",
    },
  },
};

const ZH_TIERS = { small: "小型模型", large: "大型模型", cloud: "云端模型" };

function tierName(tier) {
  return ZH_TIERS[tier] ?? `模型 ${tier}`;
}

/** Tier names for a sentence: "small and large". */
export function listTiers(words, tiers) {
  return tiers.map((tier) => (words.lang === "en" ? tier : tierName(tier))).join(words.and);
}

/** What a degradation such as "small:starting" means to a customer. */
export function degradedNote(words, what) {
  const [part, state] = what.split(":");
  if (part === "cache") return words.cacheAway;
  if (part === "intent_classifier") return words.intentsAway;
  if (!["small", "large", "cloud"].includes(part)) return words.partAway;
  return state === "starting" ? words.tierStarting(part) : words.tierAway(part);
}
