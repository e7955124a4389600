// What the page around the chat says, in both languages. Functions take what changes.

export const PAGE_WORDS = {
  en: {
    lang: "en",
    otherLanguage: "中文",
    otherLanguageLabel: "切换到中文",
    starters: [
      "How long do I have to return an item?",
      "How much does express delivery cost?",
      "Which payment methods do you accept?",
      "What does the warranty cover?",
    ],
    keyLabel: "This service needs an API key",
    keySave: "Use key",
    keyHint: "Kept in this tab only, until you close it.",
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
  },

  zh: {
    lang: "zh-CN",
    otherLanguage: "English",
    otherLanguageLabel: "Switch to English",
    starters: ["收到商品后多少天内可以退货？", "加急配送需要多少钱？", "你们支持哪些付款方式？", "保修包括哪些内容？"],
    keyLabel: "此服务需要 API 密钥",
    keySave: "使用密钥",
    keyHint: "仅保存在此标签页，关闭后即清除。",
    status: { waiting: "连接中", ready: "就绪", starting: "启动中", partial: "部分就绪", away: "无法连接" },
    modelStarting: (tiers) => `${tiers}仍在启动；规则、常见问题和缓存可以回答。`,
    modelDown: (tiers) => `${tiers}暂不可用；规则、常见问题和缓存可以回答。`,
    roomsStarting: "服务正在启动，请稍候再提问。",
    unreachable: "无法连接服务，页面会继续重试。",
    and: "和",
  },
};

const ZH_TIERS = { small: "小型模型", large: "大型模型", cloud: "云端模型" };

/** Tier names for a sentence: "small and large". */
export function listTiers(words, tiers) {
  return tiers.map((tier) => (words.lang === "en" ? tier : ZH_TIERS[tier] ?? `模型 ${tier}`)).join(words.and);
}
