// The model as a whole, in C++ so that the sanitizers see it; tests/model/ proves the numbers.
#include "model/engine.h"

#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

#include "base/error.h"
#include "support.h"
#include "support_engine.h"

namespace pygpt::test {
namespace {

ModelConfig gpt2_like() {
    ModelConfig c;
    c.n_vocab = 101;
    c.n_ctx = 700;
    c.n_embd = 30;
    c.n_head = c.n_kv_head = 3;
    c.head_dim = 10;
    c.n_inner = 77;
    c.norm_eps = 1e-5f;
    c.activation = Activation::gelu_tanh;
    c.qkv_bias = c.attn_out_bias = c.mlp_bias = c.learned_positions = c.tied_head = true;
    c.layers.assign(2, {.attn_scale = 0.3f});
    return c;
}

ModelConfig llama_like() {
    ModelConfig c = gpt2_like();
    c.n_kv_head = 1;
    c.norm = Norm::rms_norm;
    c.activation = Activation::silu;
    c.gated_mlp = true;
    c.qkv_bias = c.attn_out_bias = c.learned_positions = c.tied_head = false;
    c.layers[0].rope = Rope{false, {1.0, 0.1, 0.01}};
    c.layers[1].rope = Rope{true, {0.5, 0.25}};
    return c;
}

ModelConfig gpt1_like() {
    ModelConfig c = gpt2_like();
    c.norm_placement = NormPlacement::after_sum;
    return c;
}

// With embeddings that are wider than the stream.
ModelConfig scaled_like(QkNorm norm) {
    ModelConfig c = llama_like();
    c.activation = Activation::swiglu_clamped;
    c.embed_dim = 44;
    c.embed_norm = c.head_bias = c.tied_head = true;
    c.embed_scale = 3.0f;
    c.branch_scale = 0.6f;
    c.logit_scale = 0.5f;
    c.logit_cap = 2.0f;
    c.qk_norm = norm;
    return c;
}

void add(WeightsBuilder& builder, const std::string& name, int rows, int cols) {
    const std::vector<float> values = Random(1).floats(static_cast<std::ptrdiff_t>(rows) * cols, -0.3f, 0.3f);
    with_team(2, [&](Team& team) { builder.add(name, {values.data(), DType::f32, rows, cols, cols, 1}, team); });
}

std::shared_ptr<Engine> make_engine(const ModelConfig& config, DType dtype, DType kv, const Kernels& kernels,
                                    int threads) {
    return build_engine(config, random_tensors(config, 80), dtype, kv, kernels, threads);
}

std::shared_ptr<Engine> make_engine(const ModelConfig& config, DType dtype = DType::i8) {
    return make_engine(config, dtype, dtype == DType::f32 ? DType::f32 : DType::f16, best_kernels(), 2);
}

std::vector<int> some_tokens(int n, unsigned seed) { return random_tokens(n, 101, seed); }

using Batch = std::vector<std::pair<Session*, std::vector<int>>>;
using Stop = std::function<void()>;

// The outputs, one after another.
std::vector<float> run(const Engine& engine, const Batch& batch, Output output, const Stop& stop = [] {}) {
    std::vector<SequenceInput> inputs;
    std::size_t rows = 0;
    for (const auto& [session, tokens] : batch) {
        inputs.push_back({session, tokens, output});
        rows += output_rows(inputs.back());
    }
    const auto width = static_cast<std::size_t>(engine.output_width(output));
    std::vector<float> out(rows * width, 777.0f);
    float* to = out.data();
    for (SequenceInput& s : inputs) {
        s.out = to;
        to += output_rows(s) * width;
    }
    engine.forward(inputs, stop);
    return out;
}

std::vector<float> recomputed(const Engine& engine, const std::vector<int>& tokens, Output output = Output::all) {
    const auto session = engine.session();
    return run(engine, {{session.get(), tokens}}, output);
}

ModelConfig placed(ModelConfig c, NormPlacement norms, Branches branches) {
    c.norm_placement = norms;
    c.branches = branches;
    return c;
}

std::vector<ModelConfig> all_kinds() {
    return {gpt2_like(),
            gpt1_like(),
            llama_like(),
            scaled_like(QkNorm::head),
            scaled_like(QkNorm::whole),
            placed(gpt2_like(), NormPlacement::after_branch, Branches::sequential),
            placed(llama_like(), NormPlacement::sandwich, Branches::sequential),
            placed(gpt2_like(), NormPlacement::before_branch, Branches::parallel),
            placed(llama_like(), NormPlacement::before_branch, Branches::parallel_one_norm)};
}

template <class Error, class F>
std::string message(F f) {
    try {
        f();
    } catch (const Error& e) {
        return e.what();
    }
    return "no such error";
}

TEST(Engine, ChunksThreadsAndInstructionSetsDoNotMatter) {
    for (const ModelConfig& config : all_kinds()) {
        for (const auto& [dtype, kv] :
             {std::pair{DType::f32, DType::f32}, {DType::bf16, DType::f16}, {DType::i8, DType::f16}}) {
            const std::vector<int> tokens = some_tokens(80, 2);
            const std::vector<float> whole = recomputed(*make_engine(config, dtype, kv, scalar_kernels(), 1), tokens);
            on_each_isa([&, dtype = dtype, kv = kv](const Kernels& kernels) {
                const auto engine = make_engine(config, dtype, kv, kernels, 2);
                for (const int chunk : {3, 7, 64, 80}) {
                    const auto session = engine->session();
                    std::vector<float> found;
                    for (int i = 0; i < 80; i += chunk) {
                        const auto end = tokens.begin() + std::min(i + chunk, 80);
                        const std::vector<float> part =
                            run(*engine, {{session.get(), {tokens.begin() + i, end}}}, Output::all);
                        found.insert(found.end(), part.begin(), part.end());
                    }
                    EXPECT_EQ(found, whole) << chunk;
                    EXPECT_EQ(session->length(), 80);
                }
            });
        }
    }
}

TEST(Engine, LongBatchesAreCutIntoSteps) {
    for (const auto& [config, dtype] : {std::pair{gpt2_like(), DType::f32},
                                        {gpt1_like(), DType::i8},
                                        {llama_like(), DType::i8},
                                        {scaled_like(QkNorm::head), DType::i8},
                                        {llama_like(), DType::bf16}}) {
        const auto engine = make_engine(config, dtype);
        std::vector<std::shared_ptr<Session>> sessions;
        Batch batch;
        for (const int n : {3, 600, 1, 512, 65}) {
            sessions.push_back(engine->session());
            batch.emplace_back(sessions.back().get(), some_tokens(n, static_cast<unsigned>(n)));
        }
        for (const Output output : {Output::all, Output::last, Output::hidden}) {
            std::vector<float> expected;
            for (const auto& [session, tokens] : batch) {
                const std::vector<float> alone = recomputed(*engine, tokens, output);
                expected.insert(expected.end(), alone.begin(), alone.end());
            }
            EXPECT_EQ(run(*engine, batch, output), expected) << static_cast<int>(output);
            for (const auto& s : sessions) s->truncate(0);
        }
    }
}

TEST(Engine, AStoppedCallLeavesNoTrace) {
    const auto engine = make_engine(llama_like());
    const std::vector<int> tokens = some_tokens(600, 3);
    const std::vector<int> first(tokens.begin(), tokens.begin() + 50), rest(tokens.begin() + 50, tokens.end());
    const std::vector<float> expected = recomputed(*engine, tokens, Output::last);
    for (int stop_at = 0; stop_at < 6; ++stop_at) {  // two steps of two layers and a head each
        const auto session = engine->session();
        run(*engine, {{session.get(), first}}, Output::last);
        int calls = 0;
        const auto stop = [&] {
            if (calls++ == stop_at) throw Cancelled("enough");
        };
        EXPECT_THROW(run(*engine, {{session.get(), rest}}, Output::all, stop), Cancelled) << stop_at;
        EXPECT_EQ(session->length(), 50);
        EXPECT_EQ(run(*engine, {{session.get(), rest}}, Output::last), expected) << stop_at;
    }
}

TEST(Engine, ForksAndTruncatedSessionsGoTheirOwnWay) {
    const auto engine = make_engine(gpt2_like(), DType::f32, DType::f16, best_kernels(), 2);
    const std::vector<int> tokens = some_tokens(200, 4), other = some_tokens(90, 5);
    const auto session = engine->session();
    run(*engine, {{session.get(), {tokens.begin(), tokens.begin() + 100}}}, Output::last);
    const auto fork = session->fork();
    fork->truncate(70);
    run(*engine, {{fork.get(), other}}, Output::last);
    const std::vector<float> original =
        run(*engine, {{session.get(), {tokens.begin() + 100, tokens.end()}}}, Output::last);
    EXPECT_EQ(original, recomputed(*engine, tokens, Output::last));
    std::vector<int> joined(tokens.begin(), tokens.begin() + 70);
    joined.insert(joined.end(), other.begin(), other.end());
    joined.push_back(7);
    EXPECT_EQ(run(*engine, {{fork.get(), {7}}}, Output::last), recomputed(*engine, joined, Output::last));
}

// Those of a guess that are kept join the session, the others leave no trace; tests/model/test_sessions.py has the
// rest.
TEST(Engine, TentativeTokensJoinWhenTheyAreKept) {
    const auto engine = make_engine(llama_like());
    const std::vector<int> tokens = some_tokens(300, 6);
    const auto session = engine->session();
    std::vector<float> out(100 * 101);
    const std::span<const int> guess(tokens.data(), 100);
    const SequenceInput input{session.get(), guess, Output::all, out.data(), nullptr, 70};
    engine->forward({&input, 1}, [] {});
    EXPECT_EQ(session->length(), 30);
    session->keep(20);
    EXPECT_THROW(session->keep(51), InvalidArgument);
    EXPECT_THROW(session->fork()->keep(1), InvalidArgument);
    const std::vector<int> rest(tokens.begin() + 50, tokens.end());
    EXPECT_EQ(run(*engine, {{session.get(), rest}}, Output::last), recomputed(*engine, tokens, Output::last));
    EXPECT_THROW(session->keep(1), InvalidArgument);
}

// Layers that see everything, a part of a page and several segments; what a window has passed is given back meanwhile.
TEST(Engine, WindowsForgetWhatNobodySees) {
    ModelConfig config = llama_like();
    config.layers.resize(4, config.layers[0]);
    config.layers[1].window = 20;
    config.layers[2].window = 290;
    config.layers[3].window = 20;
    const auto engine = make_engine(config);
    const std::vector<int> tokens = some_tokens(700, 8);
    const auto append_all = [&](Session& session, int from, int chunk) {
        std::vector<float> last;
        for (int i = from; i < 700; i += chunk)
            last = run(*engine, {{&session, {tokens.begin() + i, tokens.begin() + std::min(700, i + chunk)}}},
                       Output::last);
        return last;
    };
    const std::vector<float> whole = recomputed(*engine, tokens, Output::last);
    for (const int chunk : {13, 64, 300}) {
        const auto session = engine->session();
        EXPECT_EQ(append_all(*session, 0, chunk), whole) << chunk;
        const auto fork = session->fork();
        fork->truncate(700 - kReturn);
        EXPECT_EQ(append_all(*fork, 700 - kReturn, chunk), whole);
        EXPECT_NE(message<InvalidArgument>([&] { session->truncate(90); }).find("not to 90"), std::string::npos);
        EXPECT_EQ(session->length(), 700);
        session->truncate(0);
        EXPECT_EQ(append_all(*session, 0, chunk), whole);
    }
    for (int stop_at = 0; stop_at < 15; ++stop_at) {  // three steps of four layers, each with outputs
        const auto session = engine->session();
        run(*engine, {{session.get(), {tokens.begin(), tokens.begin() + 50}}}, Output::last);
        int calls = 0;
        const auto stop = [&] {
            if (calls++ == stop_at) throw Cancelled("enough");
        };
        const std::vector<int> rest(tokens.begin() + 50, tokens.end());
        EXPECT_THROW(run(*engine, {{session.get(), rest}}, Output::all, stop), Cancelled) << stop_at;
        EXPECT_EQ(run(*engine, {{session.get(), rest}}, Output::last), whole) << stop_at;
    }
}

TEST(Engine, RefusesWhatItCannotRun) {
    const auto engine = make_engine(gpt2_like()), stranger = make_engine(llama_like());
    const auto session = engine->session(), foreign = stranger->session();
    run(*engine, {{session.get(), {1, 2, 3}}}, Output::last);
    const auto refused = [&](const Batch& batch) {
        return message<InvalidArgument>([&] { run(*engine, batch, Output::last); });
    };
    EXPECT_EQ(refused({}), "the batch is empty");
    EXPECT_EQ(refused({{session.get(), {}}}), "a sequence has no tokens");
    EXPECT_EQ(refused({{session.get(), {5, 101}}}), "token 101 is outside the vocabulary of 101");
    EXPECT_EQ(refused({{session.get(), {-1}}}), "token -1 is outside the vocabulary of 101");
    EXPECT_EQ(refused({{foreign.get(), {1}}}), "a session belongs to another model");
    EXPECT_NE(refused({{session.get(), {1}}, {session.get(), {2}}}).find("twice"), std::string::npos);
    EXPECT_EQ(message<ContextOverflow>([&] { run(*engine, {{session.get(), some_tokens(698, 6)}}, Output::last); }),
              "3 tokens and 698 more exceed the context of 700");
    EXPECT_NE(message<InvalidArgument>([&] { session->truncate(4); }).find("between 0 and 3"), std::string::npos);
    EXPECT_NE(message<InvalidArgument>([&] { session->truncate(-1); }).find("between 0 and 3"), std::string::npos);
    EXPECT_EQ(session->length(), 3);
    EXPECT_EQ(run(*engine, {{session.get(), {9}}}, Output::last), recomputed(*engine, {1, 2, 3, 9}, Output::last));
}

TEST(Engine, ASessionInUseIsRefused) {
    const auto engine = make_engine(gpt2_like());
    const auto session = engine->session();
    std::string inner;
    const auto stop = [&] { inner = message<InvalidArgument>([&] { session->fork(); }); };
    run(*engine, {{session.get(), {1, 2}}}, Output::last, stop);
    EXPECT_NE(inner.find("in use"), std::string::npos) << inner;
    EXPECT_EQ(session->fork()->length(), 2);
}

TEST(Engine, SessionsOutliveTheirEngine) {
    auto engine = make_engine(gpt2_like());
    auto session = engine->session();
    run(*engine, {{session.get(), {1, 2}}}, Output::last);
    engine.reset();
    EXPECT_EQ(session->fork()->length(), 2);
}

TEST(Weights, Int8NamesTheTensorThatItCannotHold) {
    WeightsBuilder builder(gpt2_like(), best_kernels(), best_kernels().format(DType::i8));
    std::vector<float> values(101 * 30, 1.0f);
    values[77] = std::numeric_limits<float>::infinity();
    const auto give = [&](Team& team) {
        builder.add("embed.weight", {values.data(), DType::f32, 101, 30, 30, 1}, team);
    };
    EXPECT_NE(message<InvalidArgument>([&] { with_team(2, give); }).find("'embed.weight' cannot be stored as int8"),
              std::string::npos);
    values[77] = 0.0f;
    with_team(2, give);  // a tensor that was refused may be given again
}

TEST(Weights, RefuseWhatTheConfigurationDoesNotHave) {
    WeightsBuilder builder(gpt2_like(), best_kernels(), best_kernels().format(DType::f32));
    const auto refused = [&](const std::string& name, int rows, int cols) {
        return message<InvalidArgument>([&] { add(builder, name, rows, cols); });
    };
    EXPECT_EQ(refused("head.weight", 101, 30), "this configuration has no tensor 'head.weight'");
    EXPECT_EQ(refused("embed.weight", 30, 101), "tensor 'embed.weight' must have shape (101, 30), not (30, 101)");
    EXPECT_EQ(refused("norm.bias", 31, 1), "tensor 'norm.bias' must have shape (30,), not (31,)");
    EXPECT_EQ(message<InvalidArgument>([&] { builder.finish(); }),
              "36 tensors are missing, first of them 'blocks.0.attn.k.bias'");
    add(builder, "norm.bias", 30, 1);
    EXPECT_EQ(refused("norm.bias", 30, 1), "tensor 'norm.bias' was given twice");
    EXPECT_NE(message<InvalidArgument>([&] { builder.finish(); }).find("35 tensors"), std::string::npos);
}

}  // namespace
}  // namespace pygpt::test
