// PyTorch, through its C++ API, without autograd. Its operators return new tensors: their out=
// variants make one and copy it. malloc is set up to keep freed memory, so that is cheap.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/add.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/native_layer_norm.h>
#include <ATen/ops/native_layer_norm_backward.h>
#include <ATen/ops/rms_norm.h>
#include <c10/core/InferenceMode.h>
#include <torch/version.h>

#include <array>
#include <cstring>
#include <optional>
#include <vector>

#include "worker.h"

namespace {

constexpr double eps = 1e-5;
using Tensor = at::Tensor;

struct Tensors {
  Tensor x, residual, dy, weight, bias, mean, rstd, sum;
  std::array<Tensor, 3> results;
};

const job *current;
Tensors t;
std::vector<int64_t> shape;

Tensor wrap(void *data, at::IntArrayRef sizes, at::ScalarType type) {
  return data ? at::from_blob(data, sizes, at::TensorOptions().dtype(type)) : Tensor();
}

// What the framework allocated, into the buffers that the benchmark compares.
void save(void *to, const Tensor &from) {
  if (to) std::memcpy(to, from.data_ptr(), from.nbytes());
}

} // namespace

extern "C" const char *worker_start(const char *) {
  static c10::InferenceMode inference;
  return TORCH_VERSION;
}

extern "C" const char *worker_prepare(const job *j) try {
  if (j->op == LN_FWD_READ) return "not measured";
  current = j;
  at::set_num_threads(j->threads);
  const auto type = j->dtype == FLOAT32   ? at::kFloat
                    : j->dtype == FLOAT16 ? at::kHalf
                                          : at::kBFloat16;
  shape = {j->cols};
  t.x = wrap(j->x, {j->rows, j->cols}, type);
  t.residual = wrap(j->residual, {j->rows, j->cols}, type);
  t.dy = wrap(j->dy, {j->rows, j->cols}, type);
  t.sum = wrap(j->sum, {j->rows, j->cols}, type);
  t.weight = wrap(j->weight, {j->cols}, type);
  t.bias = wrap(j->bias, {j->cols}, type);
  if (j->op == LN_BWD) {
    // PyTorch keeps the statistics in the type of x where the parameters have that type too.
    t.mean = wrap(j->mean, {j->rows, 1}, at::kFloat).to(type);
    t.rstd = wrap(j->rstd, {j->rows, 1}, at::kFloat).to(type);
  }
  worker_run();
  if (j->op == LN_BWD) {
    save(j->dx, t.results[0]);
    save(j->dweight, t.results[1]);
    save(j->dbias, t.results[2]);
  } else {
    save(j->y, t.results[0]);
    if (j->op == LN_FWD_STATS) {
      save(j->mean, t.results[1].to(at::kFloat));
      save(j->rstd, t.results[2].to(at::kFloat));
    }
  }
  return nullptr;
} catch (const std::exception &error) {
  worker_finish();
  return "an operator that fails";
}

extern "C" void worker_run(void) {
  t.results = {}; // so that the new tensors get the memory of the last call's
  const Tensor *x = &t.x;
  switch (current->op) {
  case ADD_LN:
    at::add_out(t.sum, t.x, t.residual);
    x = &t.sum;
    [[fallthrough]];
  case LN_FWD:
  case LN_FWD_STATS: {
    auto [y, mean, rstd] = at::native_layer_norm(*x, shape, t.weight, t.bias, eps);
    t.results = {std::move(y), std::move(mean), std::move(rstd)};
    break;
  }
  case LN_BWD: {
    auto [dx, dweight, dbias] = at::native_layer_norm_backward(
        t.dy, t.x, shape, t.mean, t.rstd, t.weight, t.bias, {true, true, true});
    t.results = {std::move(dx), std::move(dweight), std::move(dbias)};
    break;
  }
  case RMS_FWD:
    t.results[0] = at::rms_norm(t.x, shape, t.weight, eps);
    break;
  case LN_FWD_READ:
    break;
  }
}

extern "C" void worker_finish(void) { t = Tensors(); }
