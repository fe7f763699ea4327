// A block of GPT-2's shape with random weights reads a prompt and decodes tokens, on one thread. instructions.py counts
// the instructions.
//
//     pygpt_instructions isa weights prompt decoded
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/select.h"
#include "model/engine.h"

namespace {

using namespace pygpt;

ModelConfig gpt2_block() {
    ModelConfig c;
    c.n_vocab = 256;
    c.n_ctx = 1024;
    c.n_embd = 768;
    c.n_head = c.n_kv_head = 12;
    c.head_dim = 64;
    c.n_inner = 3072;
    c.norm_eps = 1e-5f;
    c.activation = Activation::gelu_tanh;
    c.qkv_bias = c.attn_out_bias = c.mlp_bias = c.learned_positions = c.tied_head = true;
    c.layers.resize(1);
    c.layers[0].attn_scale = 0.125f;
    return c;
}

std::shared_ptr<Engine> make_engine(const Kernels& kernels, DType dtype) {
    const ModelConfig config = gpt2_block();
    const auto one = std::make_shared<const Threads>(1);
    WeightsBuilder builder(config, kernels, kernels.format(dtype));
    std::mt19937 random(1);
    for (const TensorSpec& t : list_tensors(config)) {
        std::vector<float> values(static_cast<std::size_t>(t.rows) * static_cast<std::size_t>(t.cols));
        for (float& x : values) x = static_cast<float>(static_cast<int>(random() % 256) - 128) * 0x1p-12f;
        const Plain plain{values.data(), DType::f32, t.rows, t.cols, t.cols, 1};
        one->run([&](Team& team) { builder.add(t.name, plain, team); });
    }
    return std::make_shared<Engine>(config, builder.finish(), kernels, one,
                                    dtype == DType::f32 ? DType::f32 : DType::f16);
}

// All logits, since without them the last layer, which here is the only one, leaves out what nobody reads.
void step(const Engine& engine, Session& session, int tokens) {
    const auto n = static_cast<std::size_t>(tokens);
    std::vector<float> out(n * static_cast<std::size_t>(engine.output_width(Output::all)));
    const std::vector<int> input(n, 7);
    const SequenceInput sequence{&session, input, Output::all, out.data()};
    engine.forward({&sequence, 1}, [] {});
}

DType dtype_of(const Kernels& kernels, const std::string& name) {
    for (const LinearFormat& f : kernels.formats) {
        if (f.name == name) return f.dtype;
    }
    throw std::invalid_argument(name);
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 5) throw std::invalid_argument("usage: pygpt_instructions isa weights prompt decoded");
    const Kernels& kernels = select_kernels(argv[1]);
    const auto engine = make_engine(kernels, dtype_of(kernels, argv[2]));
    const auto session = engine->session();
    if (const int prompt = std::atoi(argv[3]); prompt > 0) step(*engine, *session, prompt);
    for (int i = 0; i < std::atoi(argv[4]); ++i) step(*engine, *session, 1);
    return 0;
} catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
}
