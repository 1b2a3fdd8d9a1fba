"""The loss head as one function: hidden states x output weight -> cross entropy, without ever holding the logits."""
