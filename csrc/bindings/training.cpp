// TrainingKernels: the primitives of pygpt.training.functions in float32, written to arrays that the caller brings.
#include <pybind11/stl.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/backend.h"
#include "bindings/choice.h"
#include "bindings/module.h"
#include "bindings/training_arguments.h"
#include "kernels/select.h"
#include "threads/parallel.h"
#include "threads/per_process.h"
#include "training/attention_passes.h"
#include "training/linear_layer.h"
#include "training/loss.h"
#include "training/row_passes.h"

namespace pygpt {

namespace {

using In = const py::array&;
using Out = const py::array&;
using OptionalArray = const std::optional<py::array>&;

class TrainingPrimitives {
public:
    TrainingPrimitives(int threads, const std::optional<std::string>& isa, const std::string& precision)
        : inference_(select_kernels(isa.value_or(""))),
          kernels_(training_kernels(inference_)),
          threads_(threads, choose_backend(std::nullopt)),
          products_(products(inference_, kernels_, precision)),
          memory_(std::make_unique<Memory>(products_.matmul, threads_.count())) {
        if (threads < 1 || threads > Threads::kMost) {
            throw InvalidArgument("threads must be at least 1 and at most " + std::to_string(Threads::kMost) +
                                  ", not " + std::to_string(threads));
        }
    }

    const char* isa() const { return inference_.name; }
    int threads() const { return threads_.count(); }

    void linear(In x, In weight, OptionalArray bias, Out y) {
        training::LinearSizes s{};
        const float* from = elements<const float>("x", x, {&s.rows, &s.inputs});
        const float* w = elements<const float>("weight", weight, {&s.outputs, s.inputs});
        const float* b = bias ? elements<const float>("bias", *bias, {s.outputs}) : nullptr;
        float* to = elements<float>("y", y, {s.rows, s.outputs});
        run([&](Team& team, Memory& memory) { training::linear_forward(team, memory.matmul, s, from, w, b, to); });
    }

    void linear_backward(In dy, OptionalArray x, In weight, OptionalArray dweight, OptionalArray dbias, Out dx) {
        training::LinearSizes s{};
        training::LinearGradients g{};
        g.dy = elements<const float>("dy", dy, {&s.rows, &s.outputs});
        g.weight = elements<const float>("weight", weight, {s.outputs, &s.inputs});
        if (dweight) {
            if (!x) throw InvalidArgument("dweight needs x");
            g.x = elements<const float>("x", *x, {s.rows, s.inputs});
            g.dweight = elements<float>("dweight", *dweight, {s.outputs, s.inputs});
        }
        g.dbias = dbias ? elements<float>("dbias", *dbias, {s.outputs}) : nullptr;
        g.dx = elements<float>("dx", dx, {s.rows, s.inputs});
        run([&](Team& team, Memory& memory) { training::linear_backward(kernels_, team, memory.matmul, s, g); });
    }

    void dropout(In from, OptionalArray plus, const py::object& drop, Out to) {
        int rows, n;
        DropoutArgs a{};
        a.from = elements<const float>("x", from, {&rows, &n});
        a.plus = plus ? elements<const float>("plus", *plus, {rows, n}) : nullptr;
        a.to = elements<float>("y", to, {rows, n});
        a.rows = rows;
        a.n = n;
        a.mask = dropout_mask(drop);
        run([&](Team& team, Memory&) { training::dropout(kernels_, team, a); });
    }

    void norm(In x, In weight, OptionalArray bias, float eps, Out y, Out stats) {
        NormArgs a{};
        a.x = elements<const float>("x", x, {&a.rows, &a.n});
        a.ldx = a.ldy = a.n;
        a.weight = elements<const float>("weight", weight, {a.n});
        a.bias = bias ? elements<const float>("bias", *bias, {a.n}) : nullptr;
        a.eps = eps;
        a.y = elements<float>("y", y, {a.rows, a.n});
        a.stats = elements<float>("stats", stats, {a.rows, bias ? 2 : 1});
        run([&](Team& team, Memory&) {
            training::norm_forward(team, bias ? inference_.layer_norm : inference_.rms_norm, a);
        });
    }

    void norm_backward(In dy, In x, In weight, In stats, Out dweight, const std::optional<py::array>& dbias, Out dx) {
        NormBackwardArgs a{};
        a.dy = elements<const float>("dy", dy, {&a.rows, &a.n});
        a.x = elements<const float>("x", x, {a.rows, a.n});
        a.weight = elements<const float>("weight", weight, {a.n});
        a.stats = elements<const float>("stats", stats, {a.rows, dbias ? 2 : 1});
        a.dweight = elements<float>("dweight", dweight, {a.n});
        a.dbias = dbias ? elements<float>("dbias", *dbias, {a.n}) : nullptr;
        a.dx = elements<float>("dx", dx, {a.rows, a.n});
        const auto kernel = dbias ? kernels_.layer_norm_backward : kernels_.rms_norm_backward;
        run([&](Team& team, Memory& memory) { training::norm_backward(team, memory.scratch, kernel, a); });
    }

    void activation(const std::string& name, In x, Out y) {
        const Activation f = choose<Activation>("name", name);
        int rows, n;
        const float* from = elements<const float>("x", x, {&rows, &n});
        float* to = elements<float>("y", y, {rows, n});
        run([&](Team& team, Memory&) { training::activation_forward(kernels_, team, f, from, to, x.size()); });
    }

    void activation_backward(const std::string& name, In dy, In x, Out dx) {
        const Activation f = choose<Activation>("name", name);
        int rows, n;
        const float* from = elements<const float>("x", x, {&rows, &n});
        const float* d = elements<const float>("dy", dy, {rows, n});
        float* to = elements<float>("dx", dx, {rows, n});
        run([&](Team& team, Memory&) { training::activation_backward(kernels_, team, f, d, from, to, x.size()); });
    }

    void gated_activation(const std::string& name, In gate_up, Out y) {
        const Activation f = choose<Activation>("name", name);
        int rows, n;
        float* to = elements<float>("y", y, {&rows, &n});
        const float* from = elements<const float>("gate_up", gate_up, {rows, 2 * py::ssize_t{n}});
        run([&](Team& team, Memory&) { training::gated_activation_forward(kernels_, team, f, from, to, rows, n); });
    }

    void gated_activation_backward(const std::string& name, In dy, In gate_up, Out dgate_up) {
        const Activation f = choose<Activation>("name", name);
        int rows, n;
        const float* d = elements<const float>("dy", dy, {&rows, &n});
        const float* from = elements<const float>("gate_up", gate_up, {rows, 2 * py::ssize_t{n}});
        float* to = elements<float>("dgate_up", dgate_up, {rows, 2 * py::ssize_t{n}});
        run([&](Team& team, Memory&) { training::gated_activation_backward(kernels_, team, f, d, from, to, rows, n); });
    }

    void rope(Out qkv, int n_heads, int head_dim, In cos, In sin, bool interleaved, bool inverse) {
        training::RopeCall c{};
        int half;
        c.x = elements<float>("qkv", qkv, {&c.rows, &c.ld});
        c.cos = elements<const float>("cos", cos, {&c.n_ctx, &half});
        c.sin = elements<const float>("sin", sin, {c.n_ctx, half});
        if (n_heads < 0 || head_dim < 1 || std::int64_t{n_heads} * head_dim > c.ld) {
            throw InvalidArgument("n_heads=" + std::to_string(n_heads) + " heads of head_dim=" +
                                  std::to_string(head_dim) + " do not fit into rows of " + std::to_string(c.ld));
        }
        if (half > head_dim / 2) throw InvalidArgument("cos and sin have more columns than half of head_dim");
        if (c.n_ctx < 1 || c.rows % c.n_ctx != 0) throw InvalidArgument("qkv's rows are not a multiple of cos's");
        c.n_heads = n_heads;
        c.head_dim = head_dim;
        c.dim = 2 * half;
        c.interleaved = interleaved;
        c.inverse = inverse;
        run([&](Team& team, Memory& memory) { training::rope_rows(inference_, team, memory.scratch, c); });
    }

    void attention(In qkv, const py::object& heads, Out out, Out lse) {
        const training::AttentionBatch batch = attention_batch(qkv, heads);
        const SequenceAttentionArgs& s = batch.sequence;
        const py::ssize_t rows = qkv.shape(0), width = py::ssize_t{s.n_head} * s.head_dim;
        float* to = elements<float>("out", out, {rows, width});
        float* sums = elements<float>("lse", lse, {batch.n_batch, s.n_head, s.n_ctx});
        run([&](Team& team, Memory& memory) {
            training::attention_forward(products_.attention, team, memory.scratch, batch, to, sums);
        });
    }

    void attention_backward(In dout, In qkv, In out, In lse, const py::object& heads, Out dqkv) {
        const training::AttentionBatch batch = attention_batch(qkv, heads);
        const SequenceAttentionArgs& s = batch.sequence;
        const py::ssize_t rows = qkv.shape(0), width = py::ssize_t{s.n_head} * s.head_dim;
        training::AttentionGradient g{};
        g.dout = elements<const float>("dout", dout, {rows, width});
        g.out = elements<const float>("out", out, {rows, width});
        g.lse = elements<const float>("lse", lse, {batch.n_batch, s.n_head, s.n_ctx});
        g.dqkv = elements<float>("dqkv", dqkv, {rows, qkv.shape(1)});
        run([&](Team& team, Memory& memory) {
            training::attention_backward(products_.attention, team, memory.scratch, batch, g);
        });
    }

    void embedding_backward(In dx, In ids, Out dweight) {
        int rows, n, n_vocab;
        const float* d = elements<const float>("dx", dx, {&rows, &n});
        float* to = elements<float>("dweight", dweight, {&n_vocab, n});
        const std::vector<std::int32_t> at = checked_ids("ids", ids, rows, n_vocab, 0);
        run([&](Team& team, Memory&) { training::embedding_backward(inference_, team, d, at.data(), rows, n, to); });
    }

    double cross_entropy_rows(Out products, In targets, float scale, bool gradient, float logit_scale,
                              float logit_cap) {
        training::LossCall c{nullptr, nullptr, 0, 0, scale, gradient, logit_scale, logit_cap};
        c.products = elements<float>("products", products, {&c.rows, &c.n_vocab});
        const std::vector<std::int32_t> at =
            checked_ids("targets", targets, c.rows, c.n_vocab, std::numeric_limits<int>::min());
        c.targets = at.data();
        double nats = 0.0;
        run([&](Team& team, Memory& memory) {
            nats = training::cross_entropy(inference_, kernels_, team, memory.scratch, c);
        });
        return nats;
    }

    double sum_of_squares(In x) {
        int n;
        const float* from = elements<const float>("x", x, {&n});
        double sum = 0.0;
        run([&](Team& team, Memory& memory) {
            sum = training::sum_of_squares(kernels_, team, memory.scratch, from, n);
        });
        return sum;
    }

    void adamw(Out params, In grads, Out m, Out v, double lr, double beta1, double beta2, double eps,
               double weight_decay, std::int64_t step, double grad_scale) {
        if (step < 1) throw InvalidArgument("step must be at least 1, not " + std::to_string(step));
        int n;
        float* p = elements<float>("params", params, {&n});
        const float* g = elements<const float>("grads", grads, {n});
        float* square = elements<float>("v", v, {n});
        const training::AdamwStep options{lr, beta1, beta2, eps, weight_decay, step, grad_scale};
        const auto update = [&](auto* mean) {
            run([&](Team& team, Memory&) { training::adamw(kernels_, team, p, g, mean, square, n, options); });
        };
        if (m.dtype().equal(py::dtype::of<std::uint16_t>())) {  // as NumPy holds bfloat16
            update(reinterpret_cast<BFloat16*>(elements<std::uint16_t>("m", m, {n})));
        } else {
            update(elements<float>("m", m, {n}));
        }
    }

private:
    // What calls use one after the other: Python's threads may call at once.
    struct Memory {
        Memory(const MatmulFormat& format, int threads) : matmul(format, threads) {}

        std::mutex mutex;
        training::Scratch scratch;
        Matmul matmul;
    };

    // f(team, memory) without Python's lock.
    template <class F>
    void run(F f) {
        const GilReleased released;
        Memory& memory = memory_.get([&] { return std::make_unique<Memory>(products_.matmul, threads_.count()); });
        const std::lock_guard lock(memory.mutex);
        threads_.run([&](Team& team) { f(team, memory); });
    }

    const Kernels& inference_;  // its norms and its rotary embedding are the trainer's too
    const TrainingKernels& kernels_;
    Threads threads_;
    const Products products_;
    PerProcess<Memory> memory_;
};

}  // namespace

void bind_training(py::module_& m) {
    using P = TrainingPrimitives;
    py::class_<P>(m, "TrainingKernels")
        .def(py::init<int, const std::optional<std::string>&, const std::string&>(), py::kw_only(), py::arg("threads"),
             py::arg("isa"), py::arg("precision"))
        .def_property_readonly("isa", &P::isa)
        .def_property_readonly("threads", &P::threads)
        .def("linear", &P::linear, py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("y"))
        .def("linear_backward", &P::linear_backward, py::arg("dy"), py::arg("x"), py::arg("weight"), py::arg("dweight"),
             py::arg("dbias"), py::arg("dx"))
        .def("dropout", &P::dropout, py::arg("x"), py::arg("plus"), py::arg("drop"), py::arg("y"))
        .def("norm", &P::norm, py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("eps"), py::arg("y"),
             py::arg("stats"))
        .def("norm_backward", &P::norm_backward, py::arg("dy"), py::arg("x"), py::arg("weight"), py::arg("stats"),
             py::arg("dweight"), py::arg("dbias"), py::arg("dx"))
        .def("activation", &P::activation, py::arg("name"), py::arg("x"), py::arg("y"))
        .def("activation_backward", &P::activation_backward, py::arg("name"), py::arg("dy"), py::arg("x"),
             py::arg("dx"))
        .def("gated_activation", &P::gated_activation, py::arg("name"), py::arg("gate_up"), py::arg("y"))
        .def("gated_activation_backward", &P::gated_activation_backward, py::arg("name"), py::arg("dy"),
             py::arg("gate_up"), py::arg("dgate_up"))
        .def("rope", &P::rope, py::arg("qkv"), py::arg("n_heads"), py::arg("head_dim"), py::arg("cos"), py::arg("sin"),
             py::arg("interleaved"), py::arg("inverse"))
        .def("attention", &P::attention, py::arg("qkv"), py::arg("heads"), py::arg("out"), py::arg("lse"))
        .def("attention_backward", &P::attention_backward, py::arg("dout"), py::arg("qkv"), py::arg("out"),
             py::arg("lse"), py::arg("heads"), py::arg("dqkv"))
        .def("embedding_backward", &P::embedding_backward, py::arg("dx"), py::arg("ids"), py::arg("dweight"))
        .def("cross_entropy_rows", &P::cross_entropy_rows, py::arg("products"), py::arg("targets"), py::arg("scale"),
             py::arg("gradient"), py::arg("logit_scale"), py::arg("logit_cap"))
        .def("sum_of_squares", &P::sum_of_squares, py::arg("x"))
        .def("adamw", &P::adamw, py::arg("params"), py::arg("grads"), py::arg("m"), py::arg("v"), py::arg("lr"),
             py::arg("beta1"), py::arg("beta2"), py::arg("eps"), py::arg("weight_decay"), py::arg("step"),
             py::arg("grad_scale"));
}

}  // namespace pygpt
